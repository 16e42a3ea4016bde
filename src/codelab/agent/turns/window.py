"""Which stored messages a model is sent: the newest that fit, read from the end of the log.

The work is in proportion to the model's window, never to the session.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Row

from codelab.agent.repository import messages
from codelab.agent.turns.cutting import Cuts, find_cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("START", "ContextLimits", "Position", "Tail", "Window", "fit", "group", "read_tail")

#: Rows of one read.
_PAGE = 64


class Position(NamedTuple):
    """A place in the transcript of a session; what comes after it is greater."""

    turn_db_id: int
    seq: int


#: Before every message.
START = Position(0, 0)


class ContextLimits(msgspec.Struct, frozen=True):
    """Say how much a request may hold: tokens of the whole window, of the answer, and characters of a tool's output."""

    context_tokens: int
    output_tokens: int
    tool_output_chars: int

    @property
    def input_tokens(self) -> int:
        """How many tokens may be sent."""
        return self.context_tokens - min(self.output_tokens, self.context_tokens // 2)


class Tail(msgspec.Struct, frozen=True):
    """Hold the newest messages after a place, in order.

    ``question`` opened the current turn ``turn_db_id`` and may be older than they are. ``unread`` is the message just
    before them where not all were read; ``older`` says whether any of those belongs to an earlier turn.
    """

    turn_db_id: int
    rows: tuple[Row[Any], ...]
    question: Row[Any] | None = None
    unread: Row[Any] | None = None
    older: bool = False

    def after(self, position: Position) -> Tail:
        """Return what is left of it after a later place."""
        rows = tuple(row for row in self.rows if (row.turn_db_id, row.seq) > position)
        return Tail(self.turn_db_id, rows, self.question)


class Window(msgspec.Struct, frozen=True):
    """Hold the messages to send: ``earlier`` turns, how the current one was ``asked``, and its ``steps``, in order.

    ``turns_cut`` and ``steps_cut`` say that something older than the earlier turns or than the steps is left out.
    """

    earlier: tuple[Row[Any], ...]
    asked: tuple[Row[Any], ...]
    steps: tuple[Row[Any], ...]
    turns_cut: bool
    steps_cut: bool
    cuts: Cuts


async def read_tail(
    db: AsyncSession, session_db_id: int, turn_db_id: int, *, after: Position = START, room: int, tool_output_chars: int
) -> Tail:
    """Read backwards from the end of a turn until ``room`` bytes are full or ``after`` is reached."""
    cuts = Cuts(tool_output_chars)
    rows: list[Row[Any]] = []
    size, unread = 0, None
    before = Position(turn_db_id + 1, 0)
    while True:
        page = await messages.list_before(db, session_db_id, before, after=after, limit=_PAGE + 1)
        unread = page.pop() if len(page) > _PAGE else None
        rows += page
        size += sum(map(cuts.size, page))
        if unread is None or (size > room and any(row.role == "assistant" for row in rows)):
            break
        before = Position(page[-1].turn_db_id, page[-1].seq)
    rows.reverse()
    question = next((row for row in rows if row.turn_db_id == turn_db_id and row.role == "user"), None)
    if question is None or after >= Position(turn_db_id, 0) or _is_current(unread, turn_db_id):
        question = await messages.find_question(db, session_db_id, turn_db_id)
    older = unread is not None
    if _is_current(unread, turn_db_id):
        older = bool(await messages.list_before(db, session_db_id, Position(turn_db_id, 0), after=after, limit=1))
    return Tail(turn_db_id, tuple(rows), question, unread, older)


def _is_current(row: Row[Any] | None, turn_db_id: int) -> bool:
    return row is not None and row.turn_db_id == turn_db_id


def fit(tail: Tail, *, room: int, tool_output_chars: int) -> Window:
    """Choose what fits into ``room`` bytes; whole earlier turns fit or are left out, newest first, then whole steps.

    The current turn's question and its latest step are always there, so that the model has something to answer; where
    they alone are too long, they are cut.
    """
    turns, asked, steps = group(tail)
    cuts = find_cuts([*asked, *(steps[-1] if steps else ())], room, tool_output_chars)
    room -= sum(map(cuts.size, asked))
    kept_steps, room = _newest(steps, room, cuts, at_least=1)
    steps_cut = len(kept_steps) < len(steps)
    whole = turns
    if (unread := tail.unread) is not None:
        steps_cut |= unread.turn_db_id == tail.turn_db_id and (not asked or unread.seq > asked[-1].seq)
        if turns and unread.turn_db_id == turns[0][0].turn_db_id:
            whole = turns[1:]  # of the first only the end was read
    kept_turns, _ = _newest(whole, 0 if steps_cut else room, cuts)
    turns_cut = tail.older or len(kept_turns) < len(turns)
    return Window(_flat(kept_turns), tuple(asked), _flat(kept_steps), turns_cut, steps_cut, cuts)


def group(tail: Tail) -> tuple[list[list[Row[Any]]], list[Row[Any]], list[list[Row[Any]]]]:
    """Part messages into whole earlier turns, what opened the current one, and its steps.

    A step is an answer with the results of its calls and what was said after them: sent together or not at all.
    """
    turns = [list(rows) for _, rows in groupby(tail.rows, key=lambda row: int(row.turn_db_id))]
    current = turns.pop() if turns and turns[-1][0].turn_db_id == tail.turn_db_id else []
    opened = 0
    while opened < len(current) and current[opened].role == "user":
        opened += 1
    asked = current[:opened]
    if tail.question is not None and (not asked or asked[0].seq != tail.question.seq):
        asked, opened = [tail.question], 0
    steps: list[list[Row[Any]]] = []
    for row in current[opened:]:
        if row.role == "assistant" or (row.role == "user" and not steps):
            steps.append([row])
        elif steps:
            steps[-1].append(row)
    return turns, asked, steps


def _newest(
    groups: Sequence[list[Row[Any]]], room: int, cuts: Cuts, *, at_least: int = 0
) -> tuple[list[list[Row[Any]]], int]:
    """Return the newest groups that fit, in order, and the room that is left."""
    kept: list[list[Row[Any]]] = []
    for rows in reversed(groups):
        size = sum(map(cuts.size, rows))
        if size > room and len(kept) >= at_least:
            break
        kept.append(rows)
        room -= size
    return kept[::-1], room


def _flat(groups: Sequence[list[Row[Any]]]) -> tuple[Row[Any], ...]:
    return tuple(row for rows in groups for row in rows)
