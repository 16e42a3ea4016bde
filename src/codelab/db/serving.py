"""One serving process for each database: a second one waits for the first to leave, then refuses.

The lock dies with its process, however that ends, so whoever holds it knows that no other process works on the turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

import filelock
from sqlalchemy import text

from codelab.db.engine import create_engine
from codelab.db.faults import FAILURES, reason
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from codelab.db.urls import DatabaseUrl

__all__ = (
    "FileClaim",
    "PostgresClaim",
    "ServingClaim",
    "claim_of",
    "claim_or_refuse",
    "file_is_served",
    "hold_alone",
    "server_is_served",
)

logger = logging.getLogger(__name__)
RETRY = 0.25
#: Seconds that a start tries at least: whoever only looks (``codelab db status``) has the lock for an instant.
LEAST_WAIT = 2 * RETRY
#: Seconds in which the server must answer whether a lock is still ours.
PROBE_TIMEOUT = 5.0


class ServingClaim(Protocol):
    """A lock that one process holds while it serves a database."""

    async def take(self) -> bool:
        """Take the lock if nobody has it."""
        ...

    async def probe(self) -> None:
        """Raise what the driver raises when the lock may be lost."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


class FileClaim:
    """Lock a file beside a SQLite database (``flock``; the system frees it with the process)."""

    def __init__(self, database: Path, module: str) -> None:
        self._lock = filelock.FileLock(_lock_file(database, module), mode=0o600)

    async def take(self) -> bool:
        """Take the lock if nobody has it."""
        with contextlib.suppress(filelock.Timeout):
            self._lock.acquire(blocking=False)
        return self._lock.is_locked

    async def probe(self) -> None:
        """Do nothing: a lock of the system ends with this process only."""

    async def release(self) -> None:
        """Give it back."""
        self._lock.release()


class PostgresClaim:
    """Hold a session-level advisory lock on a connection of its own (PostgreSQL, section 13.3.5)."""

    def __init__(self, engine: AsyncEngine, module: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._key = {"name": _lock_name(module)}
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        """Take the lock if nobody has it.

        Raises:
            StartError: two connections are one, behind a pooler in transaction mode.
        """
        connection = await self._engine.connect()
        query = text("SELECT pg_backend_pid(), pg_try_advisory_lock(hashtext(:name))")
        try:
            pid, taken = (await connection.execute(query, self._key)).one()
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise
        if taken:
            self._connection = connection
            await self._refuse_shared(int(pid))
            return True
        await connection.close()
        return False

    async def _refuse_shared(self, pid: int) -> None:
        """Notice a pooler that gives its connections away between transactions: such a lock would be nobody's."""
        async with self._engine.connect() as other:
            if (await other.execute(text("SELECT pg_backend_pid()"))).scalar_one() == pid:
                await self.release()
                raise StartError(
                    "a pooler lends its connections for one transaction each, so nothing can be locked for longer; "
                    "name PostgreSQL itself in the URL, or a pool in session mode."
                )

    async def probe(self) -> None:
        """Ask on the connection that holds the lock: when it answers, the lock is held."""
        if self._connection is None:
            raise ConnectionError("the lock is not held")
        async with asyncio.timeout(PROBE_TIMEOUT):
            await self._connection.execute(text("SELECT 1"))

    async def release(self) -> None:
        """Give it back; the connection is closed, not pooled, since the lock lives with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()


def claim_of(url: DatabaseUrl, module: str, engine: AsyncEngine) -> ServingClaim:
    """Return the lock of a module's data; nothing is taken yet."""
    return FileClaim(url.path, module) if url.path is not None else PostgresClaim(engine, module)


def _lock_file(database: Path, module: str) -> str:
    # By module, since both may live in one file.
    return f"{database}.{module}.serving"


def _lock_name(module: str) -> str:
    return f"codelab.{module}.serving"


async def _take(claim: ServingClaim, where: str) -> bool:
    try:
        return await claim.take()
    except StartError as error:
        raise StartError(f"{where}: {error}") from None


async def claim_or_refuse(claim: ServingClaim, where: str, wait: float) -> None:
    """Take the lock, waiting ``wait`` seconds at most for another process to leave.

    Raises:
        StartError: another process still serves this database.
    """
    deadline = time.monotonic() + max(wait, LEAST_WAIT)
    told = False
    while not await _take(claim, where):
        if time.monotonic() >= deadline:
            raise StartError(f"{where}: another codelab server uses this database; stop it, or name another database.")
        if not told:
            logger.warning("%s: another codelab server uses this database, waiting for it to leave", where)
            told = True
        await asyncio.sleep(RETRY)


@contextlib.asynccontextmanager
async def hold_alone(url: DatabaseUrl, module: str, what: str) -> AsyncIterator[None]:
    """Keep every server away from a module's data while ``what`` is done to it.

    Raises:
        StartError: a server uses it now, or the lock cannot be taken.
    """
    where = f"{url.variable} ({url.masked})"
    engine = create_engine(url, f"codelab.{module}.admin")
    claim = claim_of(url, module, engine)
    try:
        try:
            taken = await claim.take()
            if not taken:  # perhaps somebody who only looks
                await asyncio.sleep(RETRY)
                taken = await claim.take()
        except FAILURES as error:
            raise StartError(f"{where}: cannot be locked: {reason(error)}.") from None
        if not taken:
            raise StartError(f"{where}: a codelab server uses this database; stop it before {what}.")
        try:
            yield
        finally:
            with contextlib.suppress(*FAILURES):
                await claim.release()
    finally:
        await engine.dispose()


def file_is_served(database: Path, module: str) -> bool:
    """Tell whether a process serves a SQLite file; the lock is tried for an instant, and no file is made."""
    name = _lock_file(database, module)
    try:
        with open(name, "rb"):  # noqa: PTH123 - the name is no path of ours to walk
            pass
        lock = filelock.FileLock(name, mode=0o600)
        with lock.acquire(blocking=False):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False


async def server_is_served(connection: AsyncConnection, module: str) -> bool:
    """Tell whether a process serves a PostgreSQL database: its lock is looked up, not tried."""
    query = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32 | objid::bigint) = hashtext(:name)::bigint)"
    )
    return bool((await connection.execute(query, {"name": _lock_name(module)})).scalar_one())
