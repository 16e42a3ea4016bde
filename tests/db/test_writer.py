from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.ext.asyncio import async_sessionmaker

from codelab.db.engine import create_engine, writing
from codelab.db.faults import is_unavailable
from codelab.db.urls import parse_url
from codelab.db.writer import Writer
from codelab.errors import Conflict, Unavailable
from tests.db.conftest import Note
from tests.db.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from codelab.db import Transaction
    from tests.support.databases import PostgresServer

    Unit = Callable[[Transaction], Awaitable[Any]]

postgresql_only = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


def note(content: str, number: int = 0) -> Unit:
    """Make a unit that inserts one note and returns its text."""

    async def write(transaction: Transaction) -> str:
        await transaction.session.execute(insert(Note).values(text=content, number=number))
        return content

    return write


async def notes(engine: AsyncEngine) -> list[str]:
    """Read what is committed, in the order of insertion."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(Note.text).order_by(Note.id))).scalars())


@pytest.fixture
def counted(engine: AsyncEngine) -> Iterator[Counter[str]]:
    """How many transactions were begun, committed and rolled back on ``engine``."""
    counts: Counter[str] = Counter()
    listeners = {name: lambda *_, name=name: counts.update([name]) for name in ("begin", "commit", "rollback")}
    for name, listener in listeners.items():
        event.listen(engine.sync_engine, name, listener)
    yield counts
    for name, listener in listeners.items():
        event.remove(engine.sync_engine, name, listener)


class Held:
    """A unit that stays inside its transaction until it is let go, so that others have to wait in line."""

    def __init__(self, content: str = "held") -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self._unit = note(content)

    async def __call__(self, transaction: Transaction) -> Any:
        """Write the note and wait."""
        result = await self._unit(transaction)
        self.entered.set()
        await self.go.wait()
        return result


async def line_up(writer: Writer, *units: Unit) -> list[asyncio.Task[Any]]:
    """Put units into one batch: they wait behind a unit that is let go when all are there."""
    held = Held()
    first = asyncio.create_task(writer.run(held))
    await held.entered.wait()
    tasks = [asyncio.create_task(writer.run(unit)) for unit in units]
    await _settle(lambda: len(writer._waiting) == len(units))
    held.go.set()
    await first
    return tasks


async def _settle(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0)


class TestGrouping:
    async def test_units_run_in_the_order_in_which_they_came(self, writer: Writer, engine: AsyncEngine) -> None:
        """What was asked first is written first, and each caller gets its own result."""
        names = [f"note {number}" for number in range(600)]

        assert await asyncio.gather(*(writer.run(note(name)) for name in names)) == names
        assert await notes(engine) == names

    async def test_units_that_wait_share_one_transaction(
        self, writer: Writer, engine: AsyncEngine, counted: Counter[str]
    ) -> None:
        """A hundred units that wait cost one commit."""
        tasks = await line_up(writer, *(note(f"note {number}") for number in range(100)))
        await asyncio.gather(*tasks)

        assert counted == {"begin": 2, "commit": 2}  # the unit that they waited for, and they
        assert len(await notes(engine)) == 101

    async def test_a_group_has_a_limit(self, writer: Writer, counted: Counter[str]) -> None:
        """A long line is cut, so that the first of it need not wait for the last."""
        tasks = await line_up(writer, *(note(f"note {number}") for number in range(257)))
        await asyncio.gather(*tasks)

        assert counted == {"begin": 3, "commit": 3}

    async def test_nothing_is_answered_before_the_commit(self, writer: Writer, engine: AsyncEngine) -> None:
        """Whoever is answered can see what was written on any other connection."""

        async def write_and_look(name: str) -> bool:
            await writer.run(note(name))
            return name in await notes(engine)

        assert all(await asyncio.gather(*(write_and_look(f"note {number}") for number in range(40))))

    async def test_no_update_is_lost(self, writer: Writer, engine: AsyncEngine) -> None:
        """Two hundred units that read a number and write it plus one add two hundred."""
        await writer.run(note("counter"))

        async def add_one(transaction: Transaction) -> None:
            found = await transaction.session.execute(select(Note.number).where(Note.text == "counter"))
            await transaction.session.execute(update(Note).values(number=found.scalar_one() + 1))

        await asyncio.gather(*(writer.run(add_one) for _ in range(200)))
        async with engine.connect() as connection:
            assert (await connection.execute(select(Note.number))).scalar_one() == 200

    @sqlite_only
    async def test_no_update_is_lost_between_two_writers(self, writer: Writer, engine: AsyncEngine) -> None:
        """On SQLite also another process that writes through a writer of its own loses nothing."""
        await writer.run(note("counter"))
        other_engine = create_engine(parse_url(f"sqlite:///{engine.url.database}", "TEST_DB_URL"), "codelab.other")
        other = Writer(async_sessionmaker(writing(other_engine)))
        other.start()

        async def add_one(transaction: Transaction) -> None:
            found = await transaction.session.execute(select(Note.number))
            await transaction.session.execute(update(Note).values(number=found.scalar_one() + 1))

        for _ in range(20):
            await asyncio.gather(*(w.run(add_one) for w in (writer, other) for _ in range(5)))
        await other.stop()
        await other_engine.dispose()
        async with engine.connect() as connection:
            assert (await connection.execute(select(Note.number))).scalar_one() == 200


class TestFailures:
    @pytest.mark.parametrize("failure", [Conflict("no"), ValueError("no"), asyncio.CancelledError()], ids=repr)
    async def test_one_failing_unit_hurts_nobody_else(
        self, failure: BaseException, writer: Writer, engine: AsyncEngine
    ) -> None:
        """In a group one unit fails: the others are kept, it gets its error, and nothing of it is kept."""

        async def fail(transaction: Transaction) -> None:
            await note("never")(transaction)
            raise failure

        tasks = await line_up(writer, *(note(f"a{number}") for number in range(5)), fail, note("b"))
        results = await asyncio.gather(*tasks, return_exceptions=True)

        assert results[:5] == [f"a{number}" for number in range(5)]
        assert isinstance(results[5], type(failure))
        assert results[6] == "b"
        assert await notes(engine) == ["held", "a0", "a1", "a2", "a3", "a4", "b"]

    async def test_a_constraint_is_the_error_of_its_unit_alone(self, writer: Writer, engine: AsyncEngine) -> None:
        """A duplicate is refused to the second of two units in one group, and the third is kept."""
        first, second, third = await line_up(writer, note("same"), note("same"), note("other"))

        assert await first == "same"
        with pytest.raises(IntegrityError):
            await second
        assert await third == "other"
        assert await notes(engine) == ["held", "same", "other"]

    async def test_what_cannot_be_flushed_is_no_unknown_commit(self, writer: Writer, engine: AsyncEngine) -> None:
        """A value that fails on its way out is the error of its unit; nobody is told that the outcome is unknown."""

        async def wrong_value(transaction: Transaction) -> None:
            transaction.session.add(Note(text="never", data=object()))

        bad, good = await line_up(writer, wrong_value, note("good"))

        with pytest.raises(StatementError):
            await bad
        assert await good == "good"
        assert await notes(engine) == ["held", "good"]

    async def test_a_unit_whose_caller_left_is_skipped(self, writer: Writer, engine: AsyncEngine) -> None:
        """A caller that is cancelled while its unit waits in line gets nothing written."""
        held = Held()
        first = asyncio.create_task(writer.run(held))
        await held.entered.wait()
        left, stayed = (asyncio.create_task(writer.run(note(name))) for name in ("left", "stayed"))
        await _settle(lambda: len(writer._waiting) == 2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        held.go.set()

        assert (await first, await stayed) == ("held", "stayed")
        assert await notes(engine) == ["held", "stayed"]

    async def test_a_unit_whose_caller_leaves_during_its_group_is_skipped(
        self, writer: Writer, engine: AsyncEngine
    ) -> None:
        """Also while the units before it in its group run."""
        held = Held("second")
        second, third, fourth = await line_up(writer, held, note("third"), note("fourth"))
        await held.entered.wait()
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        held.go.set()

        assert (await second, await fourth) == ("second", "fourth")
        assert await notes(engine) == ["held", "second", "fourth"]


class TestAfterCommit:
    async def test_callbacks_run_after_the_commit_in_order(
        self, writer: Writer, engine: AsyncEngine, counted: Counter[str]
    ) -> None:
        """Callbacks see their commit done, come in the order of their units, and before the callers go on."""
        seen: list[tuple[str, int]] = []

        def telling(name: str) -> Unit:
            async def unit(transaction: Transaction) -> None:
                await note(name)(transaction)
                transaction.after_commit(lambda: seen.append((f"{name}a", counted["commit"])))
                transaction.after_commit(lambda: seen.append((f"{name}b", counted["commit"])))
                assert not [entry for entry in seen if entry[0].startswith(name)]

            return unit

        async def follow(task: asyncio.Task[Any], name: str) -> None:
            await task
            seen.append((f"{name} answered", counted["commit"]))

        one, two = await line_up(writer, telling("1"), telling("2"))
        await asyncio.gather(follow(one, "1"), follow(two, "2"))

        assert [name for name, _ in seen] == ["1a", "1b", "2a", "2b", "1 answered", "2 answered"]
        assert {commits for _, commits in seen} == {2}

    async def test_no_callback_of_a_unit_that_failed(self, writer: Writer) -> None:
        """A unit that fails tells nobody anything; its group, run again one by one, tells everything once."""
        seen: list[str] = []

        def telling(name: str, *, fail: bool = False) -> Unit:
            async def unit(transaction: Transaction) -> None:
                transaction.after_commit(lambda: seen.append(name))
                await note(name)(transaction)
                if fail:
                    raise Conflict(name)

            return unit

        tasks = await line_up(writer, telling("1"), telling("2", fail=True), telling("3"))
        await asyncio.gather(*tasks, return_exceptions=True)

        assert seen == ["1", "3"]

    async def test_a_callback_that_fails_harms_nobody(self, writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
        """What is committed is acknowledged, whatever a callback does, and the error is in the log."""
        seen: list[str] = []

        def fail() -> None:
            raise ZeroDivisionError

        async def unit(transaction: Transaction) -> str:
            transaction.after_commit(lambda: seen.append("before"))
            transaction.after_commit(fail)
            transaction.after_commit(lambda: seen.append("after"))
            return "answer"

        assert await writer.run(unit) == "answer"
        assert seen == ["before", "after"]
        assert "ZeroDivisionError" in caplog.text


class TestStop:
    async def test_what_waits_is_finished(self, writer: Writer, engine: AsyncEngine) -> None:
        """Units that were taken before the stop are committed and answered; later ones are refused."""
        held = Held()
        first = asyncio.create_task(writer.run(held))
        await held.entered.wait()
        waiting = [asyncio.create_task(writer.run(note(f"note {number}"))) for number in range(300)]
        await _settle(lambda: len(writer._waiting) == 300)
        stopping = asyncio.create_task(writer.stop())
        await _settle(lambda: writer._stopping)
        with pytest.raises(Unavailable, match="stopping"):
            await writer.run(note("late"))
        held.go.set()
        await stopping

        assert len(await asyncio.gather(first, *waiting)) == 301
        assert len(await notes(engine)) == 301
        with pytest.raises(Unavailable, match="stopping"):
            await writer.run(note("later"))

    async def test_a_writer_that_never_started_refuses(self, engine: AsyncEngine) -> None:
        """Nothing waits for ever on a writer that does not run, and stopping it is no error."""
        idle = Writer(async_sessionmaker(engine))
        with pytest.raises(Unavailable):
            await idle.run(note("never"))
        await idle.stop()

        assert await notes(engine) == []


async def _backend(transaction: Transaction) -> int:
    return int((await transaction.session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def _terminate(engine: AsyncEngine, pid: int) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


@postgresql_only
class TestLostConnection:
    async def test_a_unit_that_lost_its_connection_runs_once_more(self, writer: Writer, engine: AsyncEngine) -> None:
        """The server ends a connection in the middle of a unit: it runs again and is written once."""
        runs = 0

        async def unit(transaction: Transaction) -> int:
            nonlocal runs
            runs += 1
            await note("once")(transaction)
            if runs == 1:
                await _terminate(engine, await _backend(transaction))
            await note("twice")(transaction)
            return runs

        assert await writer.run(unit) == 2
        assert await notes(engine) == ["once", "twice"]

    async def test_a_group_that_lost_its_connection_is_kept_whole(self, writer: Writer, engine: AsyncEngine) -> None:
        """Nobody of a group pays for a connection that was lost, and nothing is written twice."""
        runs = 0

        async def unit(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                await _terminate(engine, await _backend(transaction))
            await note("killer")(transaction)

        tasks = await line_up(writer, note("before"), unit, note("after"))
        await asyncio.gather(*tasks)

        assert await notes(engine) == ["held", "before", "killer", "after"]

    async def test_a_unit_that_always_loses_its_connection_fails(self, writer: Writer, engine: AsyncEngine) -> None:
        """It is tried twice, not for ever; its caller is told to try later, and the next unit works."""
        runs = 0

        async def unit(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            await _terminate(engine, await _backend(transaction))
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
            writer = Writer(async_sessionmaker(writing(proxied)))
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
        writer = Writer(async_sessionmaker(writing(engine)))
        writer.start()
        with pytest.raises(OSError, match=r"111|refused") as refused:
            await writer.run(_backend)
        await proxy.listen()

        assert is_unavailable(refused.value)
        assert await writer.run(_backend) > 0
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
        writer = Writer(async_sessionmaker(writing(engine)))
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
        assert [len(content) for content in await notes(engine)] == [4, 5, 1_000_000]
