"""Read a module's audit trail and verify its chain, without a server and beside one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from codelab.db.engine import create_reader
from codelab.db.faults import FAILURES, reason
from codelab.errors import StartError
from codelab.storage.chain import verify_chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from codelab.db.urls import DatabaseUrl
    from codelab.storage.module import Finding, ModuleStorage, TrailChain

__all__ = ("Trail", "count_trail", "open_trail", "read_trail", "verify_trail")

PAGE = 1000


async def verify_trail(url: DatabaseUrl, storage: ModuleStorage) -> tuple[int, list[Finding]]:
    """Verify the chain of a module; return how many rows there are, and what is not as it was written.

    Raises:
        StartError: the database cannot be read.
    """
    chain = _chain(storage)
    async with _reading(url, storage) as connection:
        findings = await verify_chain(connection, chain.name, chain.tables, chain.read_key())
        return await _count(connection, chain), findings


async def count_trail(url: DatabaseUrl, storage: ModuleStorage) -> int:
    """Count the rows of a module's trail."""
    async with _reading(url, storage) as connection:
        return await _count(connection, _chain(storage))


async def read_trail(url: DatabaseUrl, storage: ModuleStorage) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield pages of rows in the order of the chain; what is in no chain yet is not among them.

    Raises:
        StartError: the database cannot be read.
    """
    table = _chain(storage).tables.rows
    seen = 0
    async with _reading(url, storage) as connection:
        while True:
            page = select(table).where(table.c.seq > seen).order_by(table.c.seq).limit(PAGE)
            rows = [dict(row) for row in (await connection.execute(page)).mappings()]
            if not rows:
                return
            seen = rows[-1]["seq"]
            yield rows


class Trail:
    """The end of a module's trail, as it grows."""

    def __init__(self, connection: AsyncConnection, table: Table) -> None:
        self._connection = connection
        self._table = table
        self._seen = 0

    async def last(self, count: int) -> list[dict[str, Any]]:
        """Return the newest rows, in their order."""
        newest = (await self._connection.execute(select(func.max(self._table.c.seq)))).scalar_one() or 0
        # What is pruned or erased leaves no gap but at the beginning.
        self._seen = max(0, newest - count)
        return await self._read(select(self._table).where(self._table.c.seq <= newest))

    async def news(self) -> list[dict[str, Any]]:
        """Return rows that were written since, at most a page of them."""
        return await self._read(select(self._table).limit(PAGE))

    async def _read(self, statement: Select[Any]) -> list[dict[str, Any]]:
        following = statement.where(self._table.c.seq > self._seen).order_by(self._table.c.seq)
        rows = [dict(row) for row in (await self._connection.execute(following)).mappings()]
        # Else the next look would see the same state of the database.
        await self._connection.rollback()
        self._seen = rows[-1]["seq"] if rows else self._seen
        return rows


@asynccontextmanager
async def open_trail(url: DatabaseUrl, storage: ModuleStorage) -> AsyncIterator[Trail]:
    """Open a module's trail, to look at its end again and again.

    Raises:
        StartError: the database cannot be read.
    """
    async with _reading(url, storage) as connection:
        yield Trail(connection, _chain(storage).tables.rows)


async def _count(connection: AsyncConnection, chain: TrailChain) -> int:
    return int((await connection.execute(select(func.count()).select_from(chain.tables.rows))).scalar_one())


def _chain(storage: ModuleStorage) -> TrailChain:
    if storage.chain is None:
        raise RuntimeError("the module was not described with its chain")
    return storage.chain


@asynccontextmanager
async def _reading(url: DatabaseUrl, storage: ModuleStorage) -> AsyncIterator[AsyncConnection]:
    if url.path is not None and not url.path.exists():
        raise StartError(f"{url.variable} ({url.masked}): there is no file {url.path}.")
    engine = create_reader(url, f"codelab.{storage.schema.module}.audit")
    try:
        async with engine.connect() as connection:
            yield connection
    except FAILURES as error:
        raise StartError(f"{url.variable} ({url.masked}): cannot be read: {reason(error)}.") from None
    finally:
        await engine.dispose()
