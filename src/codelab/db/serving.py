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

from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ("FileClaim", "PostgresClaim", "ServingClaim", "claim_or_refuse")

logger = logging.getLogger(__name__)
RETRY = 0.25


class ServingClaim(Protocol):
    """A lock that one process holds while it serves a database."""

    async def take(self) -> bool:
        """Take the lock if nobody has it."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


class FileClaim:
    """Lock a file beside a SQLite database (``flock``; the system frees it with the process)."""

    def __init__(self, database: Path) -> None:
        self._lock = filelock.FileLock(f"{database}.serving", mode=0o600)

    async def take(self) -> bool:
        """Take the lock if nobody has it."""
        with contextlib.suppress(filelock.Timeout):
            self._lock.acquire(blocking=False)
        return self._lock.is_locked

    async def release(self) -> None:
        """Give it back."""
        self._lock.release()


class PostgresClaim:
    """Hold a session-level advisory lock on a connection of its own (PostgreSQL, section 13.3.5)."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._name = name
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        """Take the lock if nobody has it."""
        connection = await self._engine.connect()
        query = text("SELECT pg_try_advisory_lock(hashtext(:name))")
        if (await connection.execute(query, {"name": f"codelab.{self._name}.serving"})).scalar_one():
            self._connection = connection
            return True
        await connection.close()
        return False

    async def release(self) -> None:
        """Give it back; the connection is closed, not pooled, since the lock lives with it."""
        if self._connection is not None:
            await self._connection.invalidate()
            await self._connection.close()
            self._connection = None


async def claim_or_refuse(claim: ServingClaim, where: str, wait: float) -> None:
    """Take the lock, waiting ``wait`` seconds at most for another process to leave.

    Raises:
        StartError: another process still serves this database.
    """
    deadline = time.monotonic() + wait
    told = False
    while not await claim.take():
        if time.monotonic() >= deadline:
            raise StartError(f"{where}: another codelab server uses this database; stop it, or name another database.")
        if not told:
            logger.warning("%s: another codelab server uses this database, waiting for it to leave", where)
            told = True
        await asyncio.sleep(RETRY)
