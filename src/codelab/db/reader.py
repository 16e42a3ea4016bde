"""Reading: one snapshot on SQLite, the newest commits with each statement on PostgreSQL, never behind the writer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy.exc import DBAPIError

from codelab.db.session import AwaitingSession, InlineSession
from codelab.db.sqlite_driver import set_inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ("Reader", "make_reader")

#: Connections of the pool that reading from PostgreSQL leaves to others: to the writer, the lock of the serving
#: process, long commands and the look at whether it is ready.
SPARED = 4


class Reader:
    """Open sessions for reading, on connections of the pool; each read begins and ends a transaction there."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._closed = False

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session, see ``Database.read``."""
        async with self._engine.connect() as connection:
            yield cast("AsyncSession", AwaitingSession(connection))

    def peek(self) -> contextlib.AbstractAsyncContextManager[AsyncSession]:
        """Open a session, see ``Database.peek``."""
        return self.read()

    async def close(self) -> None:
        """Give back what is kept, now or when it is not used any more."""
        self._closed = True


class _Kept(NamedTuple):
    """A connection to a SQLite file that is used on the event loop, and what it wraps."""

    connection: AsyncConnection
    synchronous: Connection
    driver: Any


class _FileReader(Reader):
    """Peek into a SQLite file on the event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._kept: _Kept | None = None

    @contextlib.asynccontextmanager
    async def peek(self) -> AsyncIterator[AsyncSession]:
        """Open a session, see ``Database.peek``."""
        kept, self._kept = self._kept, None
        if kept is None:
            kept = await self._connect()
        usable = True
        try:
            yield cast("AsyncSession", InlineSession(kept.synchronous))
        except DBAPIError:
            usable = False
            raise
        finally:
            await self._put_back(kept, usable=usable)

    async def _put_back(self, kept: _Kept, *, usable: bool) -> None:
        with contextlib.suppress(DBAPIError):
            if usable and self._kept is None and not self._closed:
                kept.synchronous.rollback()
                self._kept = kept
                return
        await _give_back(kept)

    async def close(self) -> None:
        """Give back what is kept."""
        self._closed = True
        kept, self._kept = self._kept, None
        if kept is not None:
            await _give_back(kept)

    async def _connect(self) -> _Kept:
        connection = await self._engine.connect()
        driver = (await connection.get_raw_connection()).dbapi_connection
        set_inline(driver, on=True)
        return _Kept(connection, cast("Connection", connection.sync_connection), driver)


async def _give_back(kept: _Kept) -> None:
    set_inline(kept.driver, on=False)
    await kept.connection.close()


class _ServerReader(Reader):
    """Read from PostgreSQL without the ways to the server that a pool and a transaction need.

    Its connections are taken from the pool and kept. Each statement has a snapshot of its own anyway (READ COMMITTED).
    """

    def __init__(self, engine: AsyncEngine, room: int) -> None:
        super().__init__(engine.execution_options(isolation_level="AUTOCOMMIT"))
        self._room = room
        self._turn = asyncio.Semaphore(max(room, 2))
        self._idle: list[AsyncConnection] = []

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session, see ``Database.read``."""
        async with self._turn:
            connection = await self._take()
            usable = False
            try:
                yield cast("AsyncSession", AwaitingSession(connection))
                await connection.rollback()
                usable = True
            finally:
                if usable and len(self._idle) < self._room and not self._closed:
                    self._idle.append(connection)
                else:
                    await connection.close()

    async def close(self) -> None:
        """Give back what is kept."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            raw: Any = (await connection.get_raw_connection()).driver_connection
            if not raw.is_closed():
                return connection
            await connection.invalidate()
            await connection.close()
        return await self._engine.connect()


def make_reader(engine: AsyncEngine, pool_size: int) -> Reader:
    """Make what reads from a database."""
    if engine.dialect.name == "sqlite":
        return _FileReader(engine)
    return _ServerReader(engine, pool_size - SPARED)
