"""Which stored messages a model is sent: the newest that fit, read from the end of the log.

The work is in proportion to the model's window, never to the session.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Row

from codelab.agent.repository import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("BYTES_PER_TOKEN", "ContextLimits", "Window", "cut_output", "read_window")

#: Fewer than English prose has (4), so that code and other scripts are not underestimated by much.
BYTES_PER_TOKEN = 3
#: What a message costs beside its text, in bytes.
_FRAME = 40
#: Rows of one read.
_PAGE = 64


class ContextLimits(msgspec.Struct, frozen=True):
    """Say how much a request may hold: tokens of the whole window, of the answer, and characters of a tool's output."""

    context_tokens: int
    output_tokens: int
    tool_output_chars: int

    @property
    def bytes(self) -> int:
        """How much room there is for what is sent."""
        return (self.context_tokens - min(self.output_tokens, self.context_tokens // 2)) * BYTES_PER_TOKEN


class Window(msgspec.Struct, frozen=True):
    """Hold the messages to send: ``earlier`` turns, how the current one was ``asked``, and its ``steps``, in order.

    ``turns_cut`` and ``steps_cut`` say that something older than the earlier turns or than the steps is left out.
    """

    earlier: tuple[Row[Any], ...]
    asked: tuple[Row[Any], ...]
    steps: tuple[Row[Any], ...]
    turns_cut: bool
    steps_cut: bool


async def read_window(
    db: AsyncSession, session_db_id: int, turn_db_id: int, *, room: int, tool_output_chars: int
) -> Window:
    """Read backwards until ``room`` bytes are full; whole earlier turns fit or are left out, newest first.

    The current turn's question and its latest step are always there, so that the model has something to answer.
    """
    rows: list[Row[Any]] = []
    size, more = 0, True
    before: tuple[int, int] = (turn_db_id + 1, 0)
    while more and (size <= room or all(row.turn_db_id == turn_db_id and row.role != "assistant" for row in rows)):
        page = await messages.list_before(db, session_db_id, before, limit=_PAGE)
        more = len(page) == _PAGE
        if page:
            before = (page[-1].turn_db_id, page[-1].seq)
        rows += page
        size += sum(_size(row, tool_output_chars) for row in page)
    rows.reverse()
    current = [row for row in rows if row.turn_db_id == turn_db_id]
    earlier = rows[: len(rows) - len(current)]
    asked, steps = _split(current)
    unread = False
    if more and not earlier:  # perhaps the turn began before what was read, and its first row here is no question
        first = await messages.find_question(db, session_db_id, turn_db_id)
        unread = first is not None and (not asked or asked[0].seq != first.seq)
        if first is not None and unread:
            asked, steps = [first], current
    room -= sum(_size(row, tool_output_chars) for row in asked)
    kept_steps, room = _newest(_in_steps(steps), room, tool_output_chars, at_least=1)
    steps_cut = unread or len(kept_steps) < len(steps)
    by_turn = [list(turn) for _, turn in groupby(earlier, key=lambda row: row.turn_db_id)]
    if more and by_turn:
        del by_turn[0]  # perhaps only its end was read
    kept_turns, _ = _newest(by_turn, 0 if steps_cut else room, tool_output_chars)
    turns_cut = more or len(kept_turns) < len(earlier)
    return Window(tuple(kept_turns), tuple(asked), tuple(kept_steps), turns_cut, steps_cut)


def cut_output(text: str, limit: int) -> str:
    """Keep the beginning and the end of a tool's output, with a mark that says how much is left out between."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    head = limit - tail
    return f"{text[:head]}\n[… {len(text) - limit} characters are left out here …]\n{text[-tail:]}"


def _size(row: Row[Any], tool_output_chars: int) -> int:
    content = row.content or ""
    if row.role == "tool":
        content = cut_output(content, tool_output_chars)
    others = sum(len((column or "").encode()) for column in (row.tool_calls, row.reasoning))
    return _FRAME + len(content.encode()) + others


def _split(current: list[Row[Any]]) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Part a turn into what opened it and what followed."""
    opened = 0
    while opened < len(current) and current[opened].role == "user":
        opened += 1
    return current[:opened], current[opened:]


def _in_steps(rows: list[Row[Any]]) -> list[list[Row[Any]]]:
    """Group an answer with the results of its calls and what was said after it: sent together or not at all."""
    steps: list[list[Row[Any]]] = []
    for row in rows:
        if row.role == "assistant":
            steps.append([row])
        elif steps:
            steps[-1].append(row)
    return steps


def _newest(
    groups: Sequence[list[Row[Any]]], room: int, tool_output_chars: int, *, at_least: int = 0
) -> tuple[list[Row[Any]], int]:
    """Return the rows of the newest groups that fit, in order, and the room that is left."""
    kept: list[list[Row[Any]]] = []
    for group in reversed(groups):
        size = sum(_size(row, tool_output_chars) for row in group)
        if size > room and len(kept) >= at_least:
            break
        kept.append(group)
        room -= size
    return [row for group in reversed(kept) for row in group], room
