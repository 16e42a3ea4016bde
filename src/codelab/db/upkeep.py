"""Work in the background that keeps a database small: bounded batches through the writer, with pauses between them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from codelab.db.faults import is_unavailable
from codelab.db.jobs import Job, Jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.database import Database
    from codelab.db.writer import Transaction

__all__ = ("Batches", "Pace", "Upkeep")

logger = logging.getLogger(__name__)

#: Seconds that one batch should take, and those after which it has held the writer for too long.
TARGET, LONGEST = 0.01, 0.05
FIRST_ROWS, MOST_ROWS = 50, 1000
#: Seconds for everybody else after a batch: what it took so many times over, and never less than the second number.
PAUSE_FACTOR, PAUSE_LEAST = 2.0, 0.005
#: Seconds from one run to the next, and from a start to the first.
INTERVAL, FIRST_RUN = 300.0, 10.0


class Pace:
    """Choose how many rows the next batch may have, from how long the last one took."""

    def __init__(self) -> None:
        self.rows = FIRST_ROWS

    def learn(self, rows: int, seconds: float) -> None:
        """Take into account that a batch of so many rows held the writer for so long.

        It grows to twice its size at most, since the next rows may be larger; it shrinks at once.
        """
        if rows <= 0:
            return
        fitting = int(rows * TARGET / max(seconds, 1e-6))
        if seconds > TARGET:
            self.rows = max(1, min(self.rows, fitting))
        elif rows >= self.rows:  # a smaller batch says nothing of how a larger one does
            self.rows = max(1, min(fitting, self.rows * 2, MOST_ROWS))


class Batches:
    """Run units of work on a few rows at a time, until there are none left."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause = pause

    async def run(self, unit: Callable[[Transaction, int], Awaitable[int]]) -> int:
        """Call ``unit`` with a number of rows until it returns that it changed fewer; return how many it changed."""
        pace, total, limit, rows = Pace(), 0, 0, 0
        while rows >= limit:
            limit = pace.rows
            rows = await self._run_once(unit, pace)
            total += rows
        return total

    async def run_down(self, first: int, last: int, delete: Callable[[Transaction, int, int], Awaitable[int]]) -> int:
        """Call ``delete`` with the two ends of parts of a range of numbers, the last part first; return the sum.

        A query for the next rows would read all that was deleted before it, again and again, until PostgreSQL has
        cleaned up; a part of a range does not.
        """
        deleted = 0

        async def unit(tx: Transaction, limit: int) -> int:
            low, high = max(first, last - limit + 1), last
            if low > high:
                return 0
            count = await delete(tx, low, high)

            def go_on() -> None:
                nonlocal deleted, last
                deleted += count
                last = low - 1

            tx.after_commit(go_on)
            return high - low + 1

        await self.run(unit)
        return deleted

    async def run_through(
        self,
        list_keys: Callable[[AsyncSession], Awaitable[Sequence[Any]]],
        page: int,
        delete: Callable[[Transaction, Sequence[Any]], Awaitable[int]],
    ) -> int:
        """Look up ``page`` keys at a time, outside of the writer, and ``run_over`` them until fewer are found."""
        deleted = 0
        while True:
            async with self._database.read() as session:
                keys = await list_keys(session)
            deleted += await self.run_over(keys, delete)
            if len(keys) < page:
                return deleted

    async def run_over(
        self, keys: Sequence[Any], delete: Callable[[Transaction, Sequence[Any]], Awaitable[int]]
    ) -> int:
        """Call ``delete`` with a part of the keys at a time, which were looked up before; return the sum."""
        at = deleted = 0

        async def unit(tx: Transaction, limit: int) -> int:
            part = keys[at : at + limit]
            if not part:
                return 0
            count = await delete(tx, part)

            def go_on() -> None:
                nonlocal at, deleted
                at += len(part)
                deleted += count

            tx.after_commit(go_on)
            return len(part)

        await self.run(unit)
        return deleted

    async def _run_once(self, unit: Callable[[Transaction, int], Awaitable[int]], pace: Pace) -> int:
        took = 0.0

        async def measured(tx: Transaction) -> int:
            nonlocal took
            began = self._clock()
            rows = await unit(tx, pace.rows)
            took = self._clock() - began
            return rows

        rows = await self._database.write(measured)
        pace.learn(rows, took)
        if took > LONGEST:
            logger.info("a batch of %d rows held the writer for %.0f ms", rows, took * 1000)
        await self._pause(max(took * PAUSE_FACTOR, PAUSE_LEAST))
        return rows


class Upkeep:
    """Call a module's ``clean`` again and again while the server runs; ``counts`` sums up what it did.

    ``clean`` returns how many rows it changed, by a name for each kind; it is cancelled when the module stops.
    """

    def __init__(self, module: str, clean: Callable[[], Awaitable[dict[str, int]]]) -> None:
        self._module = module
        self._clean = clean
        self._jobs = Jobs(Job(f"upkeep-{module}", INTERVAL, self.run, first=FIRST_RUN))
        self.counts: dict[str, int] = {}
        self.runs = 0

    def start(self) -> None:
        """Begin."""
        self._jobs.start()

    async def stop(self) -> None:
        """End, at once; a batch that is under way is finished by the writer or never begun."""
        await self._jobs.stop()

    async def run(self) -> None:
        """Clean once; a database that is away is left for the next time."""
        began = time.monotonic()
        try:
            counts = await self._clean()
        except Exception as error:
            if is_unavailable(error):
                logger.warning("%s: the database is away; cleaning waits: %s", self._module, type(error).__name__)
            else:
                logger.exception("%s: cleaning failed; it will be tried again", self._module)
            return
        self.runs += 1
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
        level = logging.INFO if any(counts.values()) else logging.DEBUG
        logger.log(level, "%s: cleaned: %s", self._module, told, extra={"seconds": round(time.monotonic() - began, 3)})
