"""Tokens to the log: the first at once, then coalesced, each written before anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from codelab.agent.providers import (
    ReasoningBuffer,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
)
from codelab.agent.schemas import CallUsage
from codelab.db import new_id
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Row

    from codelab.agent import providers
    from codelab.agent.repository.events import Delta
    from codelab.agent.turns.ticks import Ticks

__all__ = ("REASONING", "TEXT", "Answer", "AnswerStream", "Begin", "open_answer")

#: The types of the events that carry what a model says and thinks.
TEXT, REASONING = "message.delta", "reasoning.delta"


class Answer(msgspec.Struct, frozen=True):
    """What a model said in one call, complete; ``agent`` is the one that was asked."""

    message_id: str
    agent: str
    model: str
    text: str
    calls: tuple[ToolCall, ...]
    reasoning: tuple[ReasoningPart, ...]
    usage: CallUsage | None


class Begin(Protocol):
    """Write the first of an answer, and return after the commit; ``kind`` is the type of its event."""

    async def __call__(self, message_id: str, kind: str, text: str) -> None:
        """Write it."""


class AnswerStream:
    """Collect one answer, and have its text and its thoughts written: the first by ``begin``, the rest in ticks.

    ``begun`` tells whether the model has said, thought or called anything.
    """

    def __init__(self, turn: Row[Any], ticks: Ticks, begin: Begin) -> None:
        self.message_id = new_id()
        self._turn = turn
        self._ticks = ticks
        self._begin = begin
        self._parts: list[tuple[str, str]] = []
        self._said: list[str] = []
        self._length = 0
        self._thought = ReasoningBuffer()
        self._calls = ToolCallBuffer()
        self._offsets: Counter[str] = Counter()
        self._first: asyncio.Task[None] | None = None
        #: Whether a piece of it is on its way to the database; what comes meanwhile waits.
        self._busy = False
        self._idle: asyncio.Future[None] | None = None
        self.begun = False
        self.failure: Exception | None = None

    @property
    def text(self) -> str:
        """All text that was fed."""
        return "".join(self._said)

    @property
    def reasoning(self) -> tuple[ReasoningPart, ...]:
        """All thoughts that were fed."""
        return self._thought.parts()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All tool calls that were fed."""
        return self._calls.calls()

    def feed(self, delta: providers.Delta) -> None:
        """Take more of the answer; raise what the last write raised."""
        self.begun = True
        match delta:
            case TextDelta(text):
                self._said.append(text)
                self._length += len(text)
                self._queue(TEXT, text)
            case ReasoningDelta(text):
                self._thought.add(delta, self._length)
                self._queue(REASONING, text)
            case ToolCallDelta():
                self._calls.add(delta)
            case _:
                pass

    def _queue(self, kind: str, text: str) -> None:
        if self.failure is not None:
            raise self.failure
        if not text:
            return
        self._parts.append((kind, text))
        if not self._busy:
            self._busy = True
            if self._first is None:
                self._first = asyncio.create_task(self._write_first(), name="codelab-answer")
            else:
                self._ticks.add(self)

    async def _write_first(self) -> None:
        kind, _, text = self._take()
        try:
            await self._begin(self.message_id, kind, text)
        except Exception as error:  # noqa: BLE001 - ``feed`` and ``open_answer`` raise it
            self.written(error)
        else:
            self.written(None)

    def _take(self) -> tuple[str, int, str]:
        """Take what belongs into one event: its type, where it begins, and the text."""
        kind = self._parts[0][0]
        count = next((i for i, (other, _) in enumerate(self._parts) if other != kind), len(self._parts))
        text = "".join(piece for _, piece in self._parts[:count])
        del self._parts[:count]
        offset = self._offsets[kind]
        self._offsets[kind] += len(text)
        return kind, offset, text

    def due(self) -> asyncio.Future[None] | None:
        """Return what to wait for before more is read of the model, see ``Pace``: else it would wait here."""
        waits = self._busy and bool(self._parts) and self._first is not None and self._first.done()
        return self._ticks.due() if waits else None

    def take(self) -> Delta:
        """Return as an event what is not written yet, see ``Source``; of text and thoughts that which came first."""
        kind, offset, text = self._take()
        data = {"message_id": self.message_id, "offset": offset, "text": text}
        return self._turn.id, self._turn.session_db_id, kind, canonical_json(data)

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
async def open_answer(answer: AnswerStream) -> AsyncIterator[None]:
    """Write an answer while it comes; at the end, also of a cancelled one, everything that was fed is in the log.

    Raises what a write raised.
    """
    try:
        yield
    finally:
        # Shielded: a cancel stops the model, not the commit of what it said.
        await asyncio.shield(answer.finish())
    if answer.failure is not None:
        raise answer.failure
