"""Tokens to the log: the first at once, then coalesced, each written before anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.agent.providers import Delta

__all__ = ("REASONING", "TEXT", "Answer", "AnswerStream", "Write", "open_answer")

#: Seconds between two events of one stream. All streams share the writer's transactions, so durability costs per tick.
TICK = 0.02
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


class Write(Protocol):
    """Write more of an answer and return after the commit; ``kind`` is the event, ``offset`` in code points of it."""

    async def __call__(self, kind: str, offset: int, text: str) -> None:
        """Write it."""


class AnswerStream:
    """Collect one answer, and write its text and its thoughts in ticks.

    ``begun`` tells whether the model has said, thought or called anything.
    """

    def __init__(self, write: Write) -> None:
        self.message_id = new_id()
        self._write = write
        self._parts: list[tuple[str, str]] = []
        self._said: list[str] = []
        self._length = 0
        self._thought = ReasoningBuffer()
        self._calls = ToolCallBuffer()
        self._offsets: Counter[str] = Counter()
        self._fed = asyncio.Event()
        self._done = False
        self.begun = False
        self.failure: BaseException | None = None

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

    def feed(self, delta: Delta) -> None:
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
        if text:
            self._parts.append((kind, text))
            self._fed.set()

    async def pump(self) -> None:
        """Write until the answer is finished."""
        while True:
            await self._fed.wait()
            self._fed.clear()
            started = time.monotonic()
            parts, self._parts = self._parts, []
            try:
                for kind, pieces in groupby(parts, key=itemgetter(0)):
                    text = "".join(piece for _, piece in pieces)
                    await self._write(kind, self._offsets[kind], text)
                    self._offsets[kind] += len(text)
            except Exception as error:  # noqa: BLE001 - ``feed`` and ``open_answer`` raise it
                self.failure = error
                return
            if self._done:
                if not self._parts:
                    return
                self._fed.set()
                continue
            await asyncio.sleep(max(0.0, TICK - (time.monotonic() - started)))

    def finish(self) -> None:
        """Let ``pump`` write what is left and return."""
        self._done = True
        self._fed.set()


@contextlib.asynccontextmanager
async def open_answer(answer: AnswerStream) -> AsyncIterator[None]:
    """Write an answer while it comes; at the end, also of a cancelled one, everything that was fed is in the log.

    Raises what a write raised.
    """
    pump = asyncio.create_task(answer.pump(), name="codelab-answer")
    try:
        yield
    finally:
        answer.finish()
        # Shielded: a cancel stops the model, not the commit of what it said.
        await asyncio.shield(pump)
    if answer.failure is not None:
        raise answer.failure
