"""One transaction per tick for the text of all streams of the process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.log import EventLog
    from codelab.agent.repository.events import Delta
    from codelab.db import Database, Transaction

__all__ = ("Source", "Ticks")

#: Seconds between two transactions while there is text, and so between two events of one stream.
PERIOD = 0.02
#: Seconds for each stream of a tick, where that is more, until ``LONGEST`` are between two: when hundreds of models
#: speak at once, fewer and larger events save more than they delay.
FOR_EACH, LONGEST = 0.00025, 0.075
#: Streams of a tick from which on models are read once for each tick, not whenever they have written a word: to wake
#: up for each word costs more than all else that becomes of it.
CROWD = 64


class Source(Protocol):
    """A stream that has text for the log."""

    def take(self) -> Delta:
        """Return what it has said since it was asked last."""
        ...

    def written(self, failure: Exception | None) -> None:
        """Learn that this is committed, or why it is not; the stream may come again now."""
        ...


class Ticks:
    """Collect what models say in running turns, and write all of it at once.

    A transaction for each stream would cost more than the streams themselves when there are hundreds, and so would a
    task or a timer for each.
    """

    def __init__(self, database: Database, log: EventLog, owner: str) -> None:
        self._database = database
        self._log = log
        self._owner = owner
        self._waiting: list[Source] = []
        self._last = 0
        self._readers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    def add(self, source: Source) -> None:
        """Write what a stream says in the next tick; not again before it was told of the outcome.

        Nothing is written for a turn that does not run any more, or is another process'.
        """
        self._waiting.append(source)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="codelab-ticks")

    def due(self) -> asyncio.Future[None] | None:
        """Return what ends right before the next tick takes its text; None where few speak, who are read at once.

        For who waits for a tick, or for the outcome of one and has more.
        """
        if self._last < CROWD:
            return None
        # One for each: a task that is cancelled cancels what it waits for.
        due = asyncio.get_running_loop().create_future()
        self._readers.append(due)
        return due

    def hurry(self) -> None:
        """Let the next tick come at once: somebody waits for the end of an answer."""
        self._hurried.set()

    async def _drain(self) -> None:
        try:
            await self._tick_while_waiting()
        finally:
            self._last = 0
            self._let_read()

    def _let_read(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)

    async def _tick_while_waiting(self) -> None:
        while self._waiting:
            next_tick = time.monotonic() + min(max(PERIOD, FOR_EACH * len(self._waiting)), LONGEST)
            if self._readers:
                self._let_read()
                await asyncio.sleep(0)  # what has come goes with this tick
            sources, self._waiting = self._waiting, []
            self._last = len(sources)
            batch = [(source, source.take()) for source in sources]
            try:
                await self._commit([delta for _, delta in batch])
            except Exception as error:  # noqa: BLE001 - told to each stream, or it was another's
                await self._one_by_one(batch, error)
            else:
                for source in sources:
                    source.written(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_tick - time.monotonic())):
                    await self._hurried.wait()
            self._hurried.clear()

    async def _one_by_one(self, batch: Sequence[tuple[Source, Delta]], error: Exception) -> None:
        for source, delta in batch:
            failure: Exception | None = error
            if len(batch) > 1:
                try:
                    await self._commit([delta])
                    failure = None
                except Exception as own:  # noqa: BLE001 - as above
                    failure = own
            source.written(failure)

    async def _commit(self, deltas: Sequence[Delta]) -> None:
        async def unit(tx: Transaction) -> None:
            await self._log.append_deltas(tx, deltas, self._owner)

        await self._database.write(unit)
