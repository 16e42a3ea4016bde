"""Tokens to the log: the first at once, then coalesced, each written before anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.providers import ToolCall, Usage
from codelab.db import new_id
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy import Row

    from codelab.agent.repository.events import Delta
    from codelab.agent.turns.ticks import Ticks

__all__ = ("Answer", "AnswerStream", "open_answer")


class Answer(msgspec.Struct, frozen=True):
    """What a model said in one call, complete; ``agent`` is the one that was asked."""

    message_id: str
    agent: str
    model: str
    text: str
    calls: tuple[ToolCall, ...]
    usage: Usage | None


class AnswerStream:
    """Collect the text of one answer, and have it written.

    ``begin`` takes the message id and the first text; it returns after the commit. The rest is written in ticks.
    """

    def __init__(self, turn: Row[Any], ticks: Ticks, begin: Callable[[str, str], Awaitable[None]]) -> None:
        self.message_id = new_id()
        self._turn = turn
        self._ticks = ticks
        self._begin = begin
        self._parts: list[str] = []
        self._said: list[str] = []
        self._offset = 0
        self._begun: asyncio.Task[None] | None = None
        #: Whether text of it is on its way to the database; what comes meanwhile waits.
        self._busy = False
        self._idle: asyncio.Future[None] | None = None
        self.failure: Exception | None = None

    @property
    def text(self) -> str:
        """All text that was fed."""
        return "".join(self._said)

    def feed(self, text: str) -> None:
        """Take more text; raise what the last write raised."""
        if self.failure is not None:
            raise self.failure
        if not text:
            return
        self._parts.append(text)
        self._said.append(text)
        if not self._busy:
            self._busy = True
            if self._begun is None:
                self._begun = asyncio.create_task(self._write_first(), name="codelab-answer")
            else:
                self._ticks.add(self)

    async def _write_first(self) -> None:
        text = self._take()
        try:
            await self._begin(self.message_id, text)
        except Exception as error:  # noqa: BLE001 - ``feed`` and ``open_answer`` raise it
            self.written(error)
        else:
            self.written(None)

    def _take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        self._offset += len(text)
        return text

    def take(self) -> Delta:
        """Return the text that is not written yet as an event, see ``Source``."""
        offset = self._offset
        data = {"message_id": self.message_id, "offset": offset, "text": self._take()}
        return self._turn.id, self._turn.session_db_id, canonical_json(data)

    def written(self, failure: Exception | None) -> None:
        """Go on with what came meanwhile, see ``Source``."""
        self.failure = failure
        self._busy = failure is None and bool(self._parts)
        if self._busy:
            self._ticks.add(self)
            if self._idle is not None:
                self._ticks.hurry()
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def finish(self) -> None:
        """Return when everything that was fed is written, or cannot be."""
        if self._busy:
            self._idle = asyncio.get_running_loop().create_future()
            self._ticks.hurry()
            await self._idle


@contextlib.asynccontextmanager
async def open_answer(
    turn: Row[Any], ticks: Ticks, begin: Callable[[str, str], Awaitable[None]]
) -> AsyncIterator[AnswerStream]:
    """Open an answer; at the end, also of a cancelled one, everything that was fed is in the log.

    Raises what a write raised.
    """
    answer = AnswerStream(turn, ticks, begin)
    try:
        yield answer
    finally:
        # Shielded: a cancel stops the model, not the commit of what it said.
        await asyncio.shield(answer.finish())
    if answer.failure is not None:
        raise answer.failure
