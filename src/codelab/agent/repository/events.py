"""SQL of the event log."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from sqlalchemy import and_, bindparam, insert, select, update

from codelab.agent.repository.tables import events, folded, sessions, turns
from codelab.db import now
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("Delta", "Event", "append", "append_deltas", "is_delta", "list_after", "position", "said")


#: More of what a model says or thinks: the id of its turn, the key of its session, the type, canonical JSON.
Delta: TypeAlias = tuple[str, int, str, str]
DELTAS = ("message.delta", "reasoning.delta")

# Built once: to build a statement anew costs more than to run it.
_COUNT = (
    update(sessions)
    .where(sessions.c.db_id == bindparam("key"))
    .values(last_seq=sessions.c.last_seq + bindparam("more"))
    .returning(sessions.c.last_seq)
)
# Not for each delta: it moves the session in the index of the list.
_COUNT_MESSAGES = _COUNT.values(
    message_count=sessions.c.message_count + bindparam("messages"), last_activity=bindparam("at")
)
_ADD = insert(events)
_LAST_OF_RUNNING = (
    select(turns.c.id, sessions.c.last_seq)
    .join(sessions, sessions.c.db_id == turns.c.session_db_id)
    .where(
        turns.c.id.in_(bindparam("turn_ids", expanding=True)),
        turns.c.state == "running",
        turns.c.lease_owner == bindparam("owner"),
    )
    .order_by(sessions.c.db_id)
    # The turns too: whoever takes one over waits for this, and this sees who has.
    .with_for_update(of=(sessions, turns), key_share=True)
)
_SET_LAST = update(sessions).where(sessions.c.db_id == bindparam("key")).values(last_seq=bindparam("last"))
#: Looked up for these events only, since a log has many others.
_FOLDED = and_(
    events.c.type == "message.completed",
    folded.c.session_db_id == events.c.session_db_id,
    folded.c.completed_seq == events.c.seq,
)
_AFTER = (
    select(events.c.seq, events.c.type, events.c.data, events.c.created_at, folded.c.first_seq, folded.c.last_seq)
    .outerjoin(folded, _FOLDED)
    .where(events.c.session_db_id == bindparam("key"), events.c.seq > bindparam("seen"))
    .order_by(events.c.seq)
    .limit(bindparam("count"))
)
_POSITION = select(sessions.c.last_seq, sessions.c.deleted_at).where(sessions.c.db_id == bindparam("key"))


class Event(msgspec.Struct, frozen=True):
    """One event as it is stored; ``data`` is canonical JSON."""

    seq: int
    type: str
    data: str
    created_at: datetime


async def append(
    db: AsyncSession, session_db_id: int, new: Sequence[tuple[str, str]], *, messages: int = 0
) -> list[Event]:
    """Append events of (type, canonical JSON) to a session's log; ``messages`` is added to its message count.

    The row of the session is the lock that keeps ``seq`` without gaps.
    """
    at = now()
    values = {"key": session_db_id, "more": len(new)}
    if messages:
        counted = await db.execute(_COUNT_MESSAGES, values | {"messages": messages, "at": at})
    else:
        counted = await db.execute(_COUNT, values)
    last = counted.scalar_one()
    appended = [Event(seq, kind, data, at) for seq, (kind, data) in enumerate(new, start=last - len(new) + 1)]
    await db.execute(_ADD, [_row(session_db_id, event) for event in appended])
    return appended


async def append_deltas(db: AsyncSession, deltas: Sequence[Delta], owner: str) -> list[tuple[int, Event]]:
    """Append one event each to the logs of turns, all in three statements.

    Each turn comes once. What belongs to one that does not run any more, or is another owner's, is left out. Returns
    the events with the keys of their sessions.
    """
    at = now()
    found = await db.execute(_LAST_OF_RUNNING, {"turn_ids": [turn_id for turn_id, *_ in deltas], "owner": owner})
    last = {row.id: row.last_seq for row in found}
    appended = [
        (key, Event(last[turn_id] + 1, kind, data, at)) for turn_id, key, kind, data in deltas if turn_id in last
    ]
    if appended:
        await db.execute(_SET_LAST, [{"key": key, "last": event.seq} for key, event in appended])
        await db.execute(_ADD, [_row(key, event) for key, event in appended])
    return appended


def _row(session_db_id: int, event: Event) -> dict[str, object]:
    return {
        "session_db_id": session_db_id,
        "seq": event.seq,
        "type": event.type,
        "data": event.data,
        "created_at": event.created_at,
    }


async def list_after(db: AsyncSession, session_db_id: int, after: int, limit: int) -> list[Event]:
    """Return the events with ``seq`` > ``after`` in order, ``limit`` at most.

    A message whose deltas were folded says in its ``message.completed`` which events it replaces. What is missing and
    what says so are read in one statement, so nobody sees the one without the other.
    """
    found = await db.execute(_AFTER, {"key": session_db_id, "seen": after, "count": limit})
    return [
        Event(seq, kind, data if first is None else _replacing(data, first, last), created_at)
        for seq, kind, data, created_at, first, last in found
    ]


def _replacing(data: str, first: int, last: int) -> str:
    # The other members stay as they are, to the byte.
    members: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return canonical_json(members | {"replaces": {"from": first, "to": last}})


async def position(db: AsyncSession, session_db_id: int) -> tuple[int, bool]:
    """Return the ``seq`` of the newest event of a session, 0 where there is none, and whether it was not deleted."""
    row = (await db.execute(_POSITION, {"key": session_db_id})).first()
    return (0, False) if row is None else (row.last_seq, row.deleted_at is None)


def is_delta() -> ColumnElement[bool]:
    """The condition that an event is a piece of a message."""
    return events.c.type.in_(DELTAS)


async def said(db: AsyncSession, session_db_id: int, message_id: str, since: int) -> list[tuple[str, str]]:
    """Return the deltas of a message that began at ``since``, as (type, text): what was said of it so far."""
    found = await db.execute(
        select(events.c.type, events.c.data)
        .where(events.c.session_db_id == session_db_id, events.c.seq >= since, is_delta())
        .order_by(events.c.seq)
    )
    deltas = ((kind, msgspec.json.decode(data)) for kind, data in found)
    return [(kind, delta["text"]) for kind, delta in deltas if delta["message_id"] == message_id]
