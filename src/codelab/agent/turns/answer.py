"""Tokens to the log: the first at once, then coalesced, each written before anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.providers import ToolCall, Usage
from codelab.db import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("Answer", "AnswerStream", "open_answer")

#: Seconds between two events of one stream. All streams share the writer's transactions, so durability costs per tick.
TICK = 0.02


class Answer(msgspec.Struct, frozen=True):
    """What a model said in one call, complete; ``agent`` is the one that was asked."""

    message_id: str
    agent: str
    model: str
    text: str
    calls: tuple[ToolCall, ...]
    usage: Usage | None


class AnswerStream:
    """Collect the text of one answer and write it in ticks.

    ``write`` takes the message id, the offset in code points, and the text; it returns after the commit.
    """

    def __init__(self, write: Callable[[str, int, str], Awaitable[None]]) -> None:
        self.message_id = new_id()
        self._write = write
        self._parts: list[str] = []
        self._said: list[str] = []
        self._offset = 0
        self._fed = asyncio.Event()
        self._done = False
        self.failure: BaseException | None = None

    @property
    def text(self) -> str:
        """All text that was fed."""
        return "".join(self._said)

    def feed(self, text: str) -> None:
        """Take more text; raise what the last write raised."""
        if self.failure is not None:
            raise self.failure
        if text:
            self._parts.append(text)
            self._said.append(text)
            self._fed.set()

    async def pump(self) -> None:
        """Write until the answer is finished."""
        while True:
            await self._fed.wait()
            self._fed.clear()
            started = time.monotonic()
            if text := "".join(self._parts):
                self._parts.clear()
                try:
                    await self._write(self.message_id, self._offset, text)
                except Exception as error:  # noqa: BLE001 - ``feed`` and ``open_answer`` raise it
                    self.failure = error
                    return
                self._offset += len(text)
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
async def open_answer(write: Callable[[str, int, str], Awaitable[None]]) -> AsyncIterator[AnswerStream]:
    """Open an answer; at the end, also of a cancelled one, everything that was fed is in the log.

    Raises what a write raised.
    """
    answer = AnswerStream(write)
    pump = asyncio.create_task(answer.pump(), name="codelab-answer")
    try:
        yield answer
    finally:
        answer.finish()
        # Shielded: a cancel stops the model, not the commit of what it said.
        await asyncio.shield(pump)
    if answer.failure is not None:
        raise answer.failure
