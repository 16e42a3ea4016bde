"""Reading: one snapshot on SQLite, the newest commits with each statement on PostgreSQL, never behind the writer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy.exc import DBAPIError

from codelab.db.session import AwaitingSession, InlineSession
from codelab.db.sqlite_driver import set_inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ("Reader",)


class _Kept(NamedTuple):
    """A connection to a SQLite file that is used on the event loop, and what it wraps."""

    connection: AsyncConnection
    synchronous: Connection
    driver: Any


class Reader:
    """Open sessions for reading."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        # On PostgreSQL each statement has a snapshot of its own anyway (READ COMMITTED): a transaction around them
        # would only be two more ways to the server and back.
        self._engine = engine if self._sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._kept: _Kept | None = None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session, see ``Database.read``."""
        async with self._engine.connect() as connection:
            yield cast("AsyncSession", AwaitingSession(connection))

    @contextlib.asynccontextmanager
    async def peek(self) -> AsyncIterator[AsyncSession]:
        """Open a session, see ``Database.peek``."""
        if not self._sqlite:
            async with self.read() as session:
                yield session
            return
        kept = self._kept or await self._connect()
        self._kept = None
        usable = True
        try:
            yield cast("AsyncSession", InlineSession(kept.synchronous))
        except DBAPIError:
            usable = False
            raise
        finally:
            if usable and self._kept is None:
                kept.synchronous.rollback()
                self._kept = kept
            else:
                await _give_back(kept)

    async def close(self) -> None:
        """Give the connection back that is kept."""
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
