"""SQL of folding: the deltas of messages that are complete, and what says that they were there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from sqlalchemy import Select, delete, func, insert, select, update

from codelab.agent.repository.events import is_delta
from codelab.agent.repository.tables import events, folded, messages, turns
from codelab.db import now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import CursorResult, Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

__all__ = ("Folded", "delete_deltas", "folded_ranges", "keep", "list_unfolded", "mark_folded", "measure")


class Folded(NamedTuple):
    """The deltas of one message that were folded away, or are about to be: so many from ``first_seq`` to ``last_seq``.

    Of a session's log at most these are missing: each ``seq`` that is not there lies in a range, and in a range no more
    than ``deltas`` are not there.
    """

    completed_seq: int
    first_seq: int
    last_seq: int
    deltas: int


async def folded_ranges(db: AsyncSession | AsyncConnection, session_db_id: int) -> list[Folded]:
    """Return the folded ranges of a session in order; they do not overlap."""
    found = await db.execute(
        select(*(folded.c[name] for name in Folded._fields))
        .where(folded.c.session_db_id == session_db_id)
        .order_by(folded.c.completed_seq)
    )
    return [Folded(*row) for row in found]


async def list_unfolded(db: AsyncSession, before: datetime, limit: int) -> list[Row[Any]]:
    """Return turns that ended before a time and still have their deltas, the oldest first."""
    statement: Select[Any] = (
        select(turns.c.db_id, turns.c.session_db_id)
        .where(turns.c.folded_at.is_(None), turns.c.ended_at < before)
        .order_by(turns.c.ended_at)
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


async def measure(db: AsyncSession, session_db_id: int, turn_db_id: int) -> list[Folded]:
    """Find the deltas of a turn whose text its ``message.completed`` events have too."""
    answers = await db.execute(
        select(messages.c.id, messages.c.seq)
        .where(
            messages.c.session_db_id == session_db_id,
            messages.c.turn_db_id == turn_db_id,
            messages.c.role == "assistant",
        )
        .order_by(messages.c.seq)
    )
    measured = [await _measure(db, session_db_id, answer.id, answer.seq) for answer in answers.all()]
    return [each for each in measured if each is not None]


async def _measure(db: AsyncSession, session_db_id: int, message_id: str, started_seq: int) -> Folded | None:
    later = (events.c.session_db_id == session_db_id) & (events.c.seq > started_seq)
    completed = (
        await db.execute(
            select(events.c.seq, events.c.data)
            .where(later, events.c.type == "message.completed")
            .order_by(events.c.seq)
            .limit(1)
        )
    ).first()
    if completed is None or msgspec.json.decode(completed.data)["message_id"] != message_id:
        return None
    (first, last, count) = (
        await db.execute(
            select(func.min(events.c.seq), func.max(events.c.seq), func.count()).where(
                later, events.c.seq < completed.seq, is_delta()
            )
        )
    ).one()
    return Folded(completed.seq, first, last, count) if count else None


async def keep(db: AsyncSession, session_db_id: int, turn_db_id: int, measured: list[Folded]) -> bool:
    """Say what is about to be folded of a turn, unless it was said before; False when the turn is gone."""
    if (await db.execute(select(turns.c.db_id).where(turns.c.db_id == turn_db_id))).first() is None:
        return False
    known = {each.completed_seq for each in await folded_ranges(db, session_db_id)}
    at = now()
    new = [
        {"session_db_id": session_db_id, "folded_at": at, **each._asdict()}
        for each in measured
        if each.completed_seq not in known
    ]
    if new:
        await db.execute(insert(folded), new)
    return True


async def delete_deltas(db: AsyncSession, session_db_id: int, first: int, last: int) -> int:
    """Delete the deltas with ``first`` <= ``seq`` <= ``last``; return how many."""
    deltas = (events.c.session_db_id == session_db_id) & is_delta()
    deleted = cast(
        "CursorResult[Any]", await db.execute(delete(events).where(deltas, events.c.seq.between(first, last)))
    )
    return deleted.rowcount


async def mark_folded(db: AsyncSession, turn_db_id: int) -> None:
    """Say that a turn has no deltas any more."""
    await db.execute(update(turns).where(turns.c.db_id == turn_db_id).values(folded_at=now()))
