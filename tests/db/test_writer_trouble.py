from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import OperationalError

from codelab.db.engine import create_engine, writing
from codelab.db.faults import is_unavailable
from codelab.db.urls import parse_url
from codelab.db.writer import Writer
from codelab.errors import Unavailable
from tests.db.conftest import Note
from tests.db.proxy import Proxy
from tests.db.units import line_up, note, notes

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from codelab.db import Transaction
    from tests.support.databases import PostgresServer

postgresql_only = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def _backend(transaction: Transaction) -> int:
    return int((await transaction.session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


def _terminate(url: str, pid: int) -> None:
    """End a connection while a unit runs: from a thread, since a unit waits for nothing but its transaction."""

    async def end() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(end()))
    thread.start()
    thread.join()


@postgresql_only
class TestLostConnection:
    async def test_a_unit_that_lost_its_connection_runs_once_more(
        self, writer: Writer, engine: AsyncEngine, database_url: str
    ) -> None:
        """The server ends a connection in the middle of a unit: it runs again and is written once."""
        runs = 0

        async def unit(transaction: Transaction) -> int:
            nonlocal runs
            runs += 1
            await note("once")(transaction)
            if runs == 1:
                _terminate(database_url, await _backend(transaction))
            await note("twice")(transaction)
            return runs

        assert await writer.run(unit) == 2
        assert await notes(engine) == ["once", "twice"]

    async def test_a_group_that_lost_its_connection_is_kept_whole(
        self, writer: Writer, engine: AsyncEngine, database_url: str
    ) -> None:
        """Nobody of a group pays for a connection that was lost, and nothing is written twice."""
        runs = 0

        async def unit(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                _terminate(database_url, await _backend(transaction))
            await note("killer")(transaction)

        tasks = await line_up(writer, note("before"), unit, note("after"))
        await asyncio.gather(*tasks)

        assert await notes(engine) == ["before", "killer", "after"]

    async def test_a_unit_that_always_loses_its_connection_fails(
        self, writer: Writer, engine: AsyncEngine, database_url: str
    ) -> None:
        """It is tried twice, not for ever; its caller is told to try later, and the next unit works."""
        runs = 0

        async def unit(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            _terminate(database_url, await _backend(transaction))
            await note("never")(transaction)

        with pytest.raises(Exception, match="connection") as lost:
            await writer.run(unit)
        assert is_unavailable(lost.value)
        assert runs == 2
        assert await writer.run(note("next")) == "next"
        assert await notes(engine) == ["next"]

    async def test_connections_that_died_in_the_pool_are_not_noticed(
        self, writer: Writer, engine: AsyncEngine, database_url: str
    ) -> None:
        """A restart of the server between two units costs no caller anything."""
        await writer.run(note("before"))
        other = create_engine(parse_url(database_url, "TEST_DB_URL"), "codelab.killer")
        async with engine.connect() as one, engine.connect() as two:
            for connection in (one, two):
                await connection.execute(text("SELECT 1"))
        async with other.connect() as killer:
            ended = await killer.execute(
                text(
                    "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'codelab.test'"
                )
            )
            assert ended.scalar_one() >= 2
        await other.dispose()

        assert await notes(engine) == ["before"]
        assert await writer.run(note("after")) == "after"

    @pytest.mark.parametrize(("cut", "kept"), [("before", []), ("after", ["note"])])
    async def test_a_commit_that_nobody_confirmed_is_not_repeated(
        self, cut: str, kept: list[str], engine: AsyncEngine, database_url: str
    ) -> None:
        """The connection is lost during COMMIT: the caller learns that the outcome is unknown, and it ran once."""
        runs = 0

        async def unit(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            await note("note")(transaction)

        async with Proxy(database_url) as proxy:
            proxied = create_engine(parse_url(f"{proxy.url}?sslmode=disable", "TEST_DB_URL"), "codelab.test")
            writer = Writer(writing(proxied))
            writer.start()
            await writer.run(note("first"))
            proxy.on_client = lambda data: cut if b"COMMIT" in data else None
            with pytest.raises(Unavailable, match="unknown"):
                await writer.run(unit)
            proxy.on_client = lambda _data: None
            assert await writer.run(note("next")) == "next"
            await writer.stop()
            await proxied.dispose()

        assert runs == 1
        assert await notes(engine) == ["first", *kept, "next"]


async def test_a_server_that_is_away_is_unavailable(postgresql: PostgresServer) -> None:
    """Nobody listens: the error says that it is no bug, and the writer lives on."""
    async with Proxy(postgresql.url, refuse=True) as proxy:
        engine = create_engine(parse_url(proxy.url, "TEST_DB_URL"), "codelab.test")
        writer = Writer(writing(engine))
        writer.start()
        with pytest.raises(OSError, match=r"111|refused") as refused:
            await writer.run(_backend)
        await proxy.listen()

        assert is_unavailable(refused.value)
        assert await writer.run(_backend) > 0
        await writer.stop()
        await engine.dispose()


async def test_a_socket_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    """A server that was stopped in an orderly way took its socket with it, which is as good as refused."""
    url = parse_url(f"postgresql://postgres@/postgres?host={tmp_path}", "TEST_DB_URL")
    engine = create_engine(url, "codelab.test")
    writer = Writer(writing(engine))
    writer.start()
    with pytest.raises(OSError, match="No such file") as gone:
        await writer.run(_backend)

    assert is_unavailable(gone.value)
    await writer.stop()
    await engine.dispose()


@sqlite_only
class TestSqliteTrouble:
    async def test_a_write_waits_for_another_process(self, writer: Writer, engine: AsyncEngine, tmp_path: Path) -> None:
        """While somebody else holds the write lock a unit waits, readers do not, and then it is written."""
        import sqlite3

        await writer.run(note("before"))
        other = sqlite3.connect(str(engine.url.database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO notes (text, number) VALUES ('theirs', 0)")
        waiting = asyncio.create_task(writer.run(note("ours")))
        for _ in range(20):
            assert await notes(engine) == ["before"]
        assert not waiting.done()
        other.execute("COMMIT")
        other.close()

        assert await waiting == "ours"
        assert await notes(engine) == ["before", "theirs", "ours"]

    async def test_readers_see_one_state(self, writer: Writer, engine: AsyncEngine) -> None:
        """A reader that began before a commit sees nothing of it until it begins again."""
        await writer.run(note("before"))
        async with engine.connect() as reader:
            count = select(Note.text)
            assert len((await reader.execute(count)).all()) == 1
            await writer.run(note("after"))
            assert len((await reader.execute(count)).all()) == 1
        assert len(await notes(engine)) == 2

    async def test_a_lock_that_never_ends_is_unavailable(self, database_url: str) -> None:
        """A lock that outlasts the busy time-out is reported as something to try again."""
        import sqlite3

        engine = create_engine(parse_url(database_url, "TEST_DB_URL"), "codelab.test")
        event.listen(engine.sync_engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA busy_timeout = 50"))
        writer = Writer(writing(engine))
        writer.start()
        other = sqlite3.connect(str(engine.url.database), isolation_level=None)
        other.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, number INTEGER, data TEXT)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked") as locked:
            await writer.run(note("never"))
        other.execute("ROLLBACK")
        other.close()

        assert is_unavailable(locked.value)
        assert await writer.run(note("after")) == "after"
        await writer.stop()
        await engine.dispose()

    async def test_who_cannot_begin_does_not_keep_the_others_waiting(self, engine: AsyncEngine) -> None:
        """Five units wait for a lock that never comes: the time-out passes once, not once for each."""
        import sqlite3

        said: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *arguments: said.append(arguments[2]))
        event.listen(engine.sync_engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA busy_timeout = 50"))
        await engine.dispose()
        writer = Writer(writing(engine))
        other = sqlite3.connect(str(engine.url.database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writer.start()
        outcomes = await asyncio.gather(*await line_up(writer, *map(note, "abcde")), return_exceptions=True)
        other.execute("ROLLBACK")
        other.close()

        assert [is_unavailable(error) for error in outcomes if isinstance(error, OperationalError)] == [True] * 5
        assert said == ["BEGIN IMMEDIATE"]
        assert await writer.run(note("after")) == "after"
        await writer.stop()

    async def test_a_full_disk_is_unavailable_until_there_is_room(self, writer: Writer, engine: AsyncEngine) -> None:
        """A write that does not fit fails as something to try again, a small one beside it fits, and later it works."""
        limit = "1"

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            await session.execute(text(f"PRAGMA max_page_count = {limit}"))  # raised to what is used already
            await note("x" * 1_000_000)(transaction)

        large, small = await line_up(writer, unit, note("small"))
        with pytest.raises(OperationalError, match="full") as full:
            await large
        assert is_unavailable(full.value)
        assert await small == "small"

        limit = "4294967294"
        await writer.run(unit)
        assert [len(content) for content in await notes(engine)] == [5, 1_000_000]
