"""Reading, from ``codelab.db.reader``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from codelab.db import Limits
from tests.db.modules import make_module_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.db import Database, Transaction

_NUMBERS = "SELECT n FROM numbers ORDER BY n"


async def _add(database: Database, number: int) -> None:
    async def unit(transaction: Transaction) -> None:
        await transaction.session.execute(text("INSERT INTO numbers VALUES (:n)"), {"n": number})

    await database.write(unit)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with a table of one number."""

    async def make(transaction: Transaction) -> None:
        await transaction.session.execute(text("CREATE TABLE numbers (n INTEGER NOT NULL)"))

    made = make_module_database("auth", database_url)
    await made.start(0)
    await made.write(make)
    await _add(made, 1)
    yield made
    await made.stop()


class TestPeek:
    async def test_it_sees_what_was_committed_before(self, database: Database) -> None:
        """Each peek sees the newest commits, also on the connection that earlier ones used."""
        for number in (2, 3):
            async with database.peek() as session:
                seen = (await session.execute(text(_NUMBERS))).scalars().all()
            assert seen == list(range(1, number))
            await _add(database, number)

    async def test_several_at_once_do_not_disturb_each_other(self, database: Database) -> None:
        """One that goes on while others come and go still reads, and all end well."""
        async with database.peek() as first:
            assert await first.scalar(text("SELECT 1")) == 1
            async with database.peek() as second:
                assert await second.scalar(text(_NUMBERS)) == 1
            assert await first.scalar(text(_NUMBERS)) == 1
        async with database.peek() as session:
            assert await session.scalar(text(_NUMBERS)) == 1

    async def test_many_at_once_lose_no_connection(self, database: Database) -> None:
        """Also when all come before there is a connection to look with, the pool has every one of them in the end."""

        async def look() -> int:
            async with database.peek() as session:
                return int(await session.scalar(text(_NUMBERS)))

        assert await asyncio.gather(*(look() for _ in range(40))) == [1] * 40
        assert await asyncio.gather(*(look() for _ in range(40))) == [1] * 40
        await database.stop()
        pool: Any = database.engine.pool
        assert pool.checkedout() == 0
        gc.collect()  # one that was lost would be found now, with a warning

    async def test_it_can_be_used_after_an_error(self, database: Database) -> None:
        """A statement that the database refuses, or a caller who gives up, spoils nothing for the next."""
        with pytest.raises(DBAPIError):
            async with database.peek() as session:
                await session.execute(text("SELECT n FROM nowhere"))
        with contextlib.suppress(LookupError):
            async with database.peek() as session:
                await session.execute(text(_NUMBERS))
                raise LookupError
        async with database.peek() as session:
            assert await session.scalar(text(_NUMBERS)) == 1

    async def test_it_does_not_wait_for_the_writer(self, database: Database) -> None:
        """It reads while a write transaction is open."""
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(transaction: Transaction) -> None:
            await transaction.session.execute(text("INSERT INTO numbers VALUES (2)"))
            begun.set()
            await go_on.wait()

        writing = asyncio.create_task(database.write_alone(slow))
        await begun.wait()
        async with database.peek() as session:
            assert (await session.execute(text(_NUMBERS))).scalars().all() == [1]
        go_on.set()
        await writing

    @pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
    async def test_it_leaves_no_transaction_open(self, database: Database) -> None:
        """Between two peeks nothing keeps the write-ahead log from being copied into the database."""
        async with database.peek() as session:
            await session.execute(text(_NUMBERS))
        await _add(database, 2)
        async with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            busy, pages, copied = (await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))).one()
        assert (busy, pages, copied) == (0, 0, 0)


class TestServer:
    @pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
    async def test_a_connection_that_was_cut_is_replaced(self, database: Database) -> None:
        """Reading goes on by itself after the server has ended the connection that was kept."""
        async with database.read() as session:
            kept = await session.scalar(text("SELECT pg_backend_pid()"))
        async with database.read() as session:
            assert await session.scalar(text("SELECT pg_backend_pid()")) == kept
        async with database.engine.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:kept, 10000)"), {"kept": kept})

        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(DBAPIError):  # one that began before the end was heard of
                    async with database.read() as session:
                        fresh = await session.scalar(text("SELECT pg_backend_pid()"))
                    break
        assert fresh != kept

    @pytest.mark.parametrize("pool_size", [4, 10])
    async def test_many_readers_leave_room_for_others(self, database_url: str, pool_size: int) -> None:
        """However many read at once, each gets its turn, and the database still says that it is ready."""
        small = make_module_database("auth", database_url, limits=Limits(pool_size))
        await small.start(0, alone=True)

        async def read() -> int:
            async with small.read() as session:
                return int(await session.scalar(text("SELECT 1")))

        async with asyncio.timeout(60):
            assert await asyncio.gather(*(read() for _ in range(40))) == [1] * 40
            assert await small.ping()
        await small.stop()
