"""One module's database: its engine, its session factory, its writer, its schema."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from codelab.db.engine import MIGRATION_BUSY_TIMEOUT_MS, Limits, create_engine, writing
from codelab.db.faults import FAILURES, reason
from codelab.db.migrate import refuse_foreign, upgrade
from codelab.db.reader import make_reader
from codelab.db.serving import claim_of, claim_or_refuse
from codelab.db.writer import Transaction, Writer, expect_last, write_last
from codelab.errors import StartError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from codelab.db.schema import ModuleSchema
    from codelab.db.serving import ServingClaim
    from codelab.db.urls import DatabaseUrl

__all__ = ("Database",)

T = TypeVar("T")
#: Seconds between two looks at whether the lock of the serving process is still ours.
CLAIM_CHECK = 3.0
logger = logging.getLogger(__name__)

#: What PostgreSQL says while it starts, or before anybody listens: worth another try.
_NOT_YET = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)


class Database:
    """Hold one module's database.

    What is read goes through ``read`` or ``peek``, every change through ``write``. ``sessions`` is the module's factory
    of sessions for others.
    """

    def __init__(self, url: DatabaseUrl, schema: ModuleSchema, limits: Limits | None = None) -> None:
        self.url = url
        self.schema = schema
        self.module = schema.module
        self.engine = create_engine(url, f"codelab.{schema.module}", limits=limits)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.ready = False
        #: Set when another process has taken over what this one served; ``taken_over_line`` says so.
        self.taken_over = asyncio.Event()
        self._claim: ServingClaim | None = None
        self._watch: asyncio.Task[None] | None = None
        self._writer = Writer(writing(self.engine))
        self._limits = limits or Limits()
        self._reader = make_reader(self.engine, self._limits.pool_size)

    async def start(self, wait: float, *, alone: bool = False) -> None:
        """Wait for the server, migrate, and start to take writes.

        With ``alone`` this becomes the one process that serves the database, until ``stop``.

        Raises:
            StartError: the database cannot be used, or another process still serves it after ``wait`` seconds; one
                line, without a password.
        """
        await self.reach(wait)
        if alone:
            await self._serve_alone(wait)
        await self._migrate()
        self._writer.start()
        self.ready = True
        logger.info("Database initialized with URL: %s", self.url.masked, extra={"module_name": self.module})

    async def reach(self, wait: float) -> None:
        """Wait for the server, or prove that the SQLite file can be used; no table is made.

        Raises:
            StartError: the database cannot be used; one line, without a password.
        """
        if self.url.path is not None:
            await asyncio.to_thread(self._open_file, self.url.path)
        else:
            self._check_files()
            await self._wait_for_server(wait)

    async def stop(self) -> None:
        """Finish what waits and close every connection."""
        self.ready = False
        await self._writer.stop()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        if self._claim is not None:
            await self._claim.release()
            self._claim = None
        await self._reader.close()
        self._reader = make_reader(self.engine, self._limits.pool_size)
        await self.engine.dispose()

    async def write(self, unit: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run one unit of work; returns after its commit. See ``Writer.run``."""
        if self.taken_over.is_set():
            raise Unavailable("Another server has taken over the database; this one is stopping.")
        return await self._writer.run(unit)

    def when_unknown(self, tell: Callable[[], None]) -> None:
        """Call this after each commit whose outcome is unknown: the database may hold what nobody was told of."""
        self._writer.when_unknown.append(tell)

    async def write_alone(self, unit: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a unit in a transaction of its own, outside the line of the writer, and return after its commit.

        For commands whose unit is long or awaits more than its transaction; it runs once, whatever happens.
        """
        async with AsyncSession(writing(self.engine), expire_on_commit=False) as session:
            transaction = Transaction(session)
            expect_last(session)
            async with session.begin():
                result = await unit(transaction)
                await write_last(session)
        transaction.committed()
        return result

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session for reading: one consistent snapshot on SQLite, never behind the writer."""
        return self._reader.read()

    def peek(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a session for reading a few rows by their keys; the same as ``read`` but for its cost.

        On SQLite its statements run on the event loop, for some ten microseconds each; the way to a thread and back
        costs ten times that. The price: a page that is not in memory is read from the disk while everybody waits.
        """
        return self._reader.peek()

    async def ping(self) -> bool:
        """Tell whether the database is migrated and answers."""
        if not self.ready:
            return False
        try:
            async with asyncio.timeout(5), self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except FAILURES:
            return False
        return True

    @property
    def taken_over_line(self) -> str:
        """What to say when another process has taken over."""
        return (
            f"{self._where}: another codelab server took this database over while the connection that held the lock "
            "was gone; this one stopped serving."
        )

    @property
    def _where(self) -> str:
        return f"{self.url.variable} ({self.url.masked})"

    async def _serve_alone(self, wait: float) -> None:
        # Before the migrations: a newer program must not change the schema under an older one that still serves.
        claim = claim_of(self.url, self.module, self.engine)
        try:
            await claim_or_refuse(claim, self._where, wait)
        except FAILURES as error:
            raise StartError(f"{self._where}: cannot be locked: {reason(error)}.") from None
        self._claim = claim
        self._watch = asyncio.create_task(self._keep_claim(claim), name=f"codelab-{self.module}-claim")

    async def _keep_claim(self, claim: ServingClaim) -> None:
        """Notice that the lock is gone with its connection, and take it again before anybody else does."""
        while True:
            await asyncio.sleep(CLAIM_CHECK)
            try:
                await claim.probe()
                continue
            except FAILURES as error:
                logger.warning("%s: the lock of the serving process may be lost: %s", self._where, reason(error))
            with contextlib.suppress(*FAILURES):
                await claim.release()
            try:
                if await claim.take():
                    logger.warning("%s: the lock of the serving process was taken again", self._where)
                    continue
            except FAILURES:
                continue  # the database is away; who comes back first decides
            self.ready = False
            self.taken_over.set()
            return

    async def _migrate(self) -> None:
        engine = create_engine(self.url, f"codelab.{self.module}", migrating=True)
        try:
            await upgrade(engine, self.schema, masked=self.url.masked)
        except FAILURES as error:
            raise StartError(f"{self._where}: cannot be migrated: {reason(error)}.") from None
        finally:
            await engine.dispose()

    def _open_file(self, path: Path) -> None:
        """Prove that a SQLite file can be used.

        The threads of aiosqlite outlive a connection that failed, and would complain when the loop is closed.
        """
        if sqlite3.sqlite_version_info < (3, 35):
            raise StartError(f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed (RETURNING).")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{self._where}: cannot make the folder {path.parent}: {error.strerror}.") from None
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=MIGRATION_BUSY_TIMEOUT_MS / 1000)) as connection:
                tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                # Before anything is written: the journal mode is kept in the file.
                refuse_foreign({name for (name,) in tables}, self.schema, self.url.masked)
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise StartError(f"{self._where}: cannot be opened: {reason(error)}.") from None

    def _check_files(self) -> None:
        # The driver tells a missing file like a missing socket, which would be waited for.
        for name, value in parse_qsl(urlsplit(self.url.dsn).query):
            if (
                name in {"sslrootcert", "sslcert", "sslkey", "sslcrl"}
                and value != "system"
                and not Path(value).is_file()
            ):
                raise StartError(f"{self._where}: {name} names no file.")

    async def _wait_for_server(self, wait: float) -> None:
        deadline = time.monotonic() + wait
        delay = 0.25
        encoding = ""
        while not encoding:
            try:
                async with self.engine.connect() as connection:
                    encoding = str((await connection.execute(text("SHOW server_encoding"))).scalar_one())
            except (*FAILURES, ValueError) as error:
                cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
                cause = cause.__cause__ if isinstance(cause.__cause__, asyncpg.PostgresError) else cause
                # A certificate that does not fit will not fit in a second either.
                transient = isinstance(cause, _NOT_YET) and not isinstance(cause, ssl.SSLError)
                left = deadline - time.monotonic()
                if not transient:
                    raise StartError(f"{self._where}: cannot be opened: {reason(error)}.") from None
                if left <= 0:
                    raise StartError(
                        f"{self._where}: no answer within {wait:g} s (CODELAB_DB_WAIT): {reason(error)}."
                    ) from None
                logger.warning("%s: not ready (%s), trying again", self._where, reason(error))
                await asyncio.sleep(min(delay, left))
                delay = min(delay * 1.6, 3.0)
        if encoding != "UTF8":
            raise StartError(
                f"{self._where}: its encoding is {encoding}, which cannot hold every text; make a database with "
                "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
            )
