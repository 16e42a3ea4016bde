"""Cleaning in the background: small batches, a pace that adapts, a log of SQLite that stays small."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from codelab.db import upkeep
from codelab.db.upkeep import LONGEST, MOST_ROWS, TARGET, Batches, Pace, Upkeep
from codelab.db.wal import checkpoint
from codelab.errors import Unavailable
from tests.db.modules import make_module_database

if TYPE_CHECKING:
    from codelab.db import Database, Transaction


class TestPace:
    def test_it_grows_while_batches_are_fast(self) -> None:
        """Twice as many rows each time at most, up to a bound."""
        pace = Pace()
        sizes = []
        for _ in range(8):
            sizes.append(pace.rows)
            pace.learn(pace.rows, 0.0001)

        assert sizes[:4] == [50, 100, 200, 400]
        assert pace.rows == MOST_ROWS

    def test_it_shrinks_at_once_to_what_fits(self) -> None:
        """A batch that took too long is followed by one that would not have, down to a single row."""
        pace = Pace()
        pace.rows = 1000
        pace.learn(1000, TARGET * 10)
        assert pace.rows == 100
        pace.learn(100, 60.0)
        assert pace.rows == 1

    def test_a_small_rest_says_nothing(self) -> None:
        """The last few rows are fast, whatever they are."""
        pace = Pace()
        pace.learn(3, 0.0001)
        pace.learn(0, 5.0)

        assert pace.rows == upkeep.FIRST_ROWS

    @pytest.mark.parametrize("per_row", [0.00001, 0.0004, 0.004])
    def test_batches_settle_below_the_longest(self, per_row: float) -> None:
        """Whatever a row costs, no batch after the first takes as long as a writer may be held."""
        pace = Pace()
        pace.learn(pace.rows, pace.rows * per_row)
        for _ in range(20):
            took = pace.rows * per_row
            assert took < LONGEST
            pace.learn(pace.rows, took)


@pytest.fixture
async def database(database_url: str) -> Any:
    """The database of module ``auth``, running."""
    database = make_module_database("auth", database_url)
    await database.start(5)
    yield database
    await database.stop()


class TestBatches:
    async def test_sizes_follow_the_clock_and_pauses_lie_between(self, database: Database) -> None:
        """Each batch is a transaction of its own, sized by what the last one took; nothing is called after the rest."""
        left, asked, pauses, at = 2000, [], [], 0.0

        async def unit(_: Transaction, limit: int) -> int:
            nonlocal left, at
            asked.append(limit)
            rows = min(limit, left)
            at += rows * TARGET / 500  # the clock of a database that manages 500 rows in the time
            left -= rows
            return rows

        async def pause(seconds: float) -> None:
            pauses.append(seconds)

        done = await Batches(database, clock=lambda: at, pause=pause).run(unit)

        assert (done, left) == (2000, 0)
        assert asked[:4] == [50, 100, 200, 400]
        assert max(asked) <= 500
        assert len(pauses) == len(asked)
        assert all(seconds > 0 for seconds in pauses)


class TestUpkeep:
    async def test_it_survives_a_database_that_is_away(self, caplog: pytest.LogCaptureFixture) -> None:
        """What cannot be done now is done at the next run, and counted; each run is one line."""
        caplog.set_level(logging.INFO, "codelab.db.upkeep")
        outcomes: list[Any] = [Unavailable("away"), OSError("strange"), {"tokens": 2, "keys": 0}, {"tokens": 3}]

        async def clean() -> dict[str, int]:
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return dict(outcome)

        job = Upkeep("auth", clean)
        for _ in range(4):
            await job.run()

        assert (job.runs, job.counts) == (2, {"tokens": 5, "keys": 0})
        assert [record.getMessage() for record in caplog.records][2:] == [
            "auth: cleaned: 2 tokens",
            "auth: cleaned: 3 tokens",
        ]

    async def test_it_stops_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run that is under way is cancelled, and no other begins."""
        monkeypatch.setattr(upkeep, "FIRST_RUN", 0.0)
        began, ended = asyncio.Event(), asyncio.Event()

        async def clean() -> dict[str, int]:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return {}

        job = Upkeep("auth", clean)
        job.start()
        async with asyncio.timeout(30):
            await began.wait()
            await job.stop()

        assert ended.is_set()
        assert job.runs == 0


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
class TestWal:
    async def test_it_stays_bounded_under_constant_readers(self, database: Database) -> None:
        """Many times its bound is written while somebody always reads; what was written is all there."""
        path = database.url.path
        assert path is not None
        wal = path.with_name(path.name + "-wal")
        stop, largest, written, reads = asyncio.Event(), 0, 0, 0

        async def read() -> None:
            nonlocal reads
            while not stop.is_set():
                async with database.read() as session:
                    await session.execute(text("SELECT count(*), sum(length(user_agent)) FROM audit_logs"))
                reads += 1
                await asyncio.sleep(0)

        insert = text(
            "INSERT OR REPLACE INTO audit_logs (id, event_type, user_agent, success, created_at) "
            "VALUES (:id, :round, :agent, 1, '2026-11-26')"
        )

        async def write(tx: Transaction) -> None:
            for number in range(10):
                values = {"id": f"row-{(written + number) % 50}", "round": str(written), "agent": "x" * 20_000}
                await tx.session.execute(insert, values)

        readers = [asyncio.create_task(read()) for _ in range(4)]
        for _ in range(500):  # 100 MB, 200 kB each
            await database.write(write)
            written += 1
            largest = max(largest, wal.stat().st_size)
            if written % 50 == 0:
                await checkpoint(path)
        stop.set()
        await asyncio.gather(*readers)
        async with database.read() as session:
            query = text("SELECT count(*), max(CAST(event_type AS INT)) FROM audit_logs")
            newest = (await session.execute(query)).one()
            limit = (await session.execute(text("PRAGMA journal_size_limit"))).scalar_one()

        assert newest == (50, 499)
        assert limit == 16 * 1024 * 1024
        assert reads > 4
        assert largest < 32 * 1024 * 1024, largest
        assert await checkpoint(path)
        assert wal.stat().st_size == 0

    async def test_a_checkpoint_waits_for_nobody(self, database: Database) -> None:
        """A reader that keeps its snapshot, or a writer in its transaction, is left in peace: the next time will do."""
        path = database.url.path
        assert path is not None
        async with database.engine.connect() as reader:
            await reader.execute(text("SELECT count(*) FROM users"))
            await database.write(lambda tx: tx.session.execute(text("CREATE TABLE t (i INTEGER)")))
            assert not await checkpoint(path)
        async with database.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").connect() as other:
            await other.execute(text("INSERT INTO t VALUES (1)"))
            assert not await checkpoint(path)
            await other.commit()

        assert await checkpoint(path)
