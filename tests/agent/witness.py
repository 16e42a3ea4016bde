"""A second program at the database of module ``agent``: what it sees is committed, what it does disturbs."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from codelab.db import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

__all__ = ("Witness",)

_COUNTED = (
    "sessions",
    "session_counters",
    "messages",
    "message_images",
    "turns",
    "tool_calls",
    "pending_approvals",
    "session_events",
)


class Witness:
    """Look at one database from outside of the server."""

    def __init__(self, path: Path | None, postgres: Any) -> None:
        self._path = path
        self._postgres = postgres

    @classmethod
    @asynccontextmanager
    async def at(cls, databases: DatabaseUrls) -> AsyncIterator[Self]:
        """Connect to the database of module ``agent``."""
        async with cls.at_url(databases.agent) as witness:
            yield witness

    @classmethod
    @asynccontextmanager
    async def at_url(cls, database_url: str) -> AsyncIterator[Self]:
        """Connect to a database."""
        url = parse_url(database_url, "")
        if url.path is not None:
            yield cls(url.path, None)
            return
        connection = await asyncpg.connect(url.dsn)
        try:
            yield cls(None, connection)
        finally:
            await connection.close()

    async def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run a query; its parameters are $1, $2, …."""
        if self._postgres is not None:
            return [tuple(row) for row in await self._postgres.fetch(query, *arguments)]
        assert self._path is not None
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(query, arguments).fetchall()

    async def change(self, statement: str, *arguments: Any) -> None:
        """Run a statement and commit it; its parameters are $1, $2, …."""
        if self._postgres is not None:
            await self._postgres.execute(statement, *arguments)
            return
        path = self._path
        assert path is not None

        def run() -> None:
            with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                connection.execute(statement, arguments)

        # In a thread: who has the lock may be the server of the test, which needs this very loop to give it back.
        await asyncio.to_thread(run)

    async def counts(self) -> dict[str, int]:
        """Count the rows of each table that a request may write."""
        return {table: (await self.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in _COUNTED}  # noqa: S608 - our own names

    async def find_event(self, session: str, seq: int) -> tuple[Any, ...] | None:
        """Return type and data of an event, when it is committed."""
        query = (
            "SELECT e.type, e.data FROM session_events e JOIN sessions s ON s.db_id = e.session_db_id "
            "WHERE s.id = $1 AND e.seq = $2"
        )
        return next(iter(await self.rows(query, session, seq)), None)

    async def assert_no_open_transaction(self) -> None:
        """Fail when somebody keeps a transaction open: on SQLite when another cannot write.

        A transaction that ends by itself is none that is kept: the database is asked until there is none.
        """
        deadline = asyncio.get_running_loop().time() + 10
        while held := await (self._held_lock() if self._path is not None else self._held_transactions()):
            assert asyncio.get_running_loop().time() < deadline, held
            await asyncio.sleep(0.01)

    async def _held_lock(self) -> list[Any]:
        try:
            with closing(sqlite3.connect(self._path or "", timeout=0, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return [error]
        return []

    async def _held_transactions(self) -> list[Any]:
        query = (
            "SELECT application_name, state, query FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL"
        )
        return list(await self.rows(query))

    async def terminate_others(self) -> int:
        """End every other connection to a PostgreSQL database, as its operator might."""
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return len(await self.rows(query))

    @asynccontextmanager
    async def block_readers(self) -> AsyncIterator[None]:
        """Keep everybody else from PostgreSQL's event log; the block begins when ``wait_for_blocked`` may be asked."""
        async with self._postgres.transaction():
            await self._postgres.execute("LOCK TABLE session_events IN ACCESS EXCLUSIVE MODE")
            yield

    async def wait_for_blocked(self) -> None:
        """Return when somebody waits for a lock."""
        query = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND query LIKE '%session_events%'"
        )
        async with asyncio.timeout(30):
            while not await self.rows(query):
                await self.rows("SELECT pg_stat_clear_snapshot()")  # a transaction sees one state of the activity
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def no_calls_written(self) -> AsyncIterator[None]:
        """Let no call of a tool be written: SQLite's write lock, or a lock of PostgreSQL's table."""
        if self._path is None:
            async with self._postgres.transaction():
                await self._postgres.execute("LOCK TABLE tool_calls IN EXCLUSIVE MODE")
                yield
            return
        connect = partial(sqlite3.connect, isolation_level=None, timeout=30, check_same_thread=False)
        with closing(connect(self._path)) as connection:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")  # who has the lock may be this event loop
            yield
            connection.execute("ROLLBACK")

    @asynccontextmanager
    async def lock(self, seconds: float) -> AsyncIterator[None]:
        """Let another process hold SQLite's write lock for some seconds; the block begins when it has it."""
        import sys

        program = (
            "import sqlite3, sys, time\n"
            "connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
            "connection.execute('BEGIN IMMEDIATE')\n"
            "print('locked', flush=True)\n"
            "time.sleep(float(sys.argv[2]))\n"
            "connection.execute('COMMIT')\n"
        )
        arguments = ("-c", program, str(self._path), str(seconds))
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"locked\n"
        yield
        assert await process.wait() == 0
