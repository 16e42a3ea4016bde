from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.exc import IntegrityError, StatementError

from codelab.db.engine import create_engine, writing
from codelab.db.urls import parse_url
from codelab.db.writer import Writer
from codelab.errors import Conflict, Unavailable
from tests.db.conftest import Note
from tests.db.units import Unit, line_up, note, notes, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from codelab.db import Transaction

sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


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

        assert counted == {"begin": 1, "commit": 1}
        assert len(await notes(engine)) == 100

    async def test_a_group_has_a_limit(self, writer: Writer, counted: Counter[str]) -> None:
        """A long line is cut, so that the first of it need not wait for the last."""
        tasks = await line_up(writer, *(note(f"note {number}") for number in range(257)))
        await asyncio.gather(*tasks)

        assert counted == {"begin": 2, "commit": 2}

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
        other = Writer(writing(other_engine))
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
        assert await notes(engine) == ["a0", "a1", "a2", "a3", "a4", "b"]

    async def test_a_constraint_is_the_error_of_its_unit_alone(self, writer: Writer, engine: AsyncEngine) -> None:
        """A duplicate is refused to the second of two units in one group, and the third is kept."""
        first, second, third = await line_up(writer, note("same"), note("same"), note("other"))

        assert await first == "same"
        with pytest.raises(IntegrityError):
            await second
        assert await third == "other"
        assert await notes(engine) == ["same", "other"]

    async def test_what_cannot_be_bound_is_no_unknown_commit(self, writer: Writer, engine: AsyncEngine) -> None:
        """A value that fails on its way out is the error of its unit; nobody is told that the outcome is unknown."""

        async def wrong_value(transaction: Transaction) -> None:
            await transaction.session.execute(insert(Note).values(text="never", number=0, data=object()))

        bad, good = await line_up(writer, wrong_value, note("good"))

        with pytest.raises(StatementError):
            await bad
        assert await good == "good"
        assert await notes(engine) == ["good"]

    async def test_a_unit_whose_caller_left_is_skipped(self, writer: Writer, engine: AsyncEngine) -> None:
        """A caller that is cancelled while its unit waits in line gets nothing written."""
        left, stayed = await line_up(writer, note("left"), note("stayed"))
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left

        assert await stayed == "stayed"
        assert await notes(engine) == ["stayed"]

    async def test_a_unit_whose_caller_leaves_during_its_group_is_skipped(
        self, writer: Writer, engine: AsyncEngine
    ) -> None:
        """Also while the units before it in its group run."""
        tasks: list[asyncio.Task[Any]] = []

        async def leave(transaction: Transaction) -> str:
            tasks[1].cancel()
            return str(await note("first")(transaction))

        tasks += await line_up(writer, leave, note("second"), note("third"))
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]

        assert (await tasks[0], await tasks[2]) == ("first", "third")
        assert await notes(engine) == ["first", "third"]

    async def test_a_unit_that_waits_for_something_else_is_an_error(self, writer: Writer, engine: AsyncEngine) -> None:
        """A unit would keep all others waiting: it fails at once, and nothing of it is kept."""

        async def sleepy(transaction: Transaction) -> None:
            await note("never")(transaction)
            await asyncio.sleep(0)

        lazy, good = await line_up(writer, sleepy, note("good"))
        with pytest.raises(RuntimeError, match="awaited something else"):
            await lazy
        assert await good == "good"
        assert await notes(engine) == ["good"]


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
        assert {commits for _, commits in seen} == {1}

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
        waiting = await line_up(writer, *(note(f"note {number}") for number in range(300)))
        stopping = asyncio.create_task(writer.stop())
        await settle(lambda: writer._stopping)
        with pytest.raises(Unavailable, match="stopping"):
            await writer.run(note("late"))
        await stopping

        assert len(await asyncio.gather(*waiting)) == 300
        assert len(await notes(engine)) == 300
        with pytest.raises(Unavailable, match="stopping"):
            await writer.run(note("later"))

    async def test_a_writer_that_never_started_refuses(self, engine: AsyncEngine) -> None:
        """Nothing waits for ever on a writer that does not run, and stopping it is no error."""
        idle = Writer(engine)
        with pytest.raises(Unavailable):
            await idle.run(note("never"))
        await idle.stop()

        assert await notes(engine) == []
