"""One transaction per tick for the text of all streams of the process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.log import EventLog
    from codelab.agent.repository.events import Delta
    from codelab.db import Database, Transaction

__all__ = ("Ticks",)

#: Seconds between two transactions while there is text: half a tick of a stream, so it delays nobody by much.
PERIOD = 0.01


class Ticks:
    """Collect what models say in running turns, and write all of it at once.

    A transaction for each stream would cost more than the streams themselves when there are hundreds.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._waiting: list[tuple[Delta, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, turn_id: str, session_db_id: int, kind: str, data: dict[str, Any]) -> None:
        """Append an event and return after its commit; nothing happens when the turn does not run any more.

        Raises what the database raised.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((turn_id, session_db_id, kind, canonical_json(data)), future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="codelab-ticks")
        await future

    async def _drain(self) -> None:
        while self._waiting:
            started = time.monotonic()
            batch, self._waiting = self._waiting, []
            try:
                await self._commit([delta for delta, _ in batch])
            except Exception as error:  # noqa: BLE001 - told to each stream, or it was another's
                await self._one_by_one(batch, error)
            else:
                for _, future in batch:
                    _settle(future)
            await asyncio.sleep(max(0.0, PERIOD - (time.monotonic() - started)))

    async def _one_by_one(self, batch: Sequence[tuple[Delta, asyncio.Future[None]]], error: Exception) -> None:
        for delta, future in batch:
            failure: Exception | None = error
            if len(batch) > 1:
                try:
                    await self._commit([delta])
                    failure = None
                except Exception as own:  # noqa: BLE001 - as above
                    failure = own
            _settle(future, failure)

    async def _commit(self, deltas: Sequence[Delta]) -> None:
        async def unit(tx: Transaction) -> None:
            await self._log.append_deltas(tx, deltas)

        await self._database.write(unit)


def _settle(future: asyncio.Future[None], failure: Exception | None = None) -> None:
    if not future.done():
        future.set_exception(failure) if failure else future.set_result(None)
