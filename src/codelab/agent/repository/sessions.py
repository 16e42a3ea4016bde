"""SQL of sessions, and of which agent they are with."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from codelab.agent.repository.tables import contexts, counters, sessions, switches, turns
from codelab.agent.repository.turns import ACTIVE
from codelab.db import new_id, now
from codelab.db.writer import before_commit

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "add",
    "add_switch",
    "add_to_count",
    "count_events",
    "count_live",
    "find",
    "find_by_key",
    "list_live",
    "list_switches",
    "mark_deleted",
    "set_fields",
)


def _select() -> Select[Any]:
    """Select live sessions with their agent and their active turn, in one statement."""
    active = and_(turns.c.session_db_id == sessions.c.db_id, ACTIVE)
    return (
        select(
            sessions,
            contexts.c.id.label("context_id"),
            contexts.c.current_agent,
            contexts.c.switch_count,
            contexts.c.updated_at.label("last_switch_at"),
            turns.c.id.label("turn_id"),
            turns.c.state.label("turn_state"),
        )
        .join(contexts, contexts.c.session_db_id == sessions.c.db_id)
        .outerjoin(turns, active)
        .where(sessions.c.deleted_at.is_(None))
    )


def _count_with(make: Any) -> Any:
    counted = make(counters)
    return counted.on_conflict_do_update(
        index_elements=[counters.c.owner_id],
        set_={"live_sessions": counters.c.live_sessions + counted.excluded.live_sessions},
    )


# Statements are built once: to build one anew costs more than to run it.
_FIND = _select().where(sessions.c.owner_id == bindparam("owner"), sessions.c.id == bindparam("public_id"))
_OWNED = (
    _select()
    .where(sessions.c.owner_id == bindparam("owner"))
    .order_by(sessions.c.last_activity.desc(), sessions.c.db_id.desc())
    .limit(bindparam("count"))
)
_FIND_BY_KEY = _select().where(sessions.c.db_id == bindparam("key"))
_SET = update(sessions).where(sessions.c.db_id == bindparam("key"))
_LIVE = select(counters.c.live_sessions).where(counters.c.owner_id == bindparam("owner"))
_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_ADD_SESSION = {
    name: make(sessions).on_conflict_do_nothing().returning(sessions.c.db_id) for name, make in _INSERTS.items()
}
_ADD_CONTEXT = insert(contexts)
_COUNT = {name: _count_with(make) for name, make in _INSERTS.items()}


async def add(
    db: AsyncSession,
    *,
    session_id: str,
    owner_id: str,
    title: str | None,
    agent: str,
    metadata: dict[str, Any],
    model: str | None = None,
) -> datetime | None:
    """Insert a session and return when; its agent context and its count follow at the end of the transaction.

    None when the owner has a live session with that id.
    """
    at = now()
    values = {
        "id": session_id,
        "owner_id": owner_id,
        "title": title,
        "model": model,
        "created_at": at,
        "updated_at": at,
        "last_activity": at,
        "is_active": True,
        "metadata_json": metadata,
        "message_count": 0,
        "last_seq": 0,
    }
    added = (await db.execute(_ADD_SESSION[_dialect(db)], values)).one_or_none()
    if added is None:
        return None
    context = {
        "id": new_id(),
        "session_db_id": added.db_id,
        "current_agent": agent,
        "created_at": at,
        "updated_at": at,
        "switch_count": 0,
    }
    before_commit(db, add, _write_contexts).append(context)
    add_to_count(db, owner_id, 1)
    return at


async def _write_contexts(db: AsyncSession, rows: list[dict[str, Any]]) -> None:
    await db.execute(_ADD_CONTEXT, rows)


def _dialect(db: AsyncSession) -> str:
    return str(db.get_bind().dialect.name)


def add_to_count(db: AsyncSession, owner_id: str, change: int) -> None:
    """Count live sessions of a person that came or went, at the end of the transaction."""
    before_commit(db, add_to_count, _write_counts).append((owner_id, change))


async def _write_counts(db: AsyncSession, changes: list[tuple[str, int]]) -> None:
    sums: Counter[str] = Counter()
    for owner_id, change in changes:
        sums[owner_id] += change
    # In one order, so that two processes never wait for each other.
    rows = [{"owner_id": owner_id, "live_sessions": change} for owner_id, change in sorted(sums.items())]
    await db.execute(_COUNT[_dialect(db)], rows)


async def find(db: AsyncSession, owner_id: str, session_id: str) -> Row[Any] | None:
    """Return a live session of its owner."""
    found = await db.execute(_FIND, {"owner": owner_id, "public_id": session_id})
    row: Row[Any] | None = found.first()
    return row


async def find_by_key(db: AsyncSession, session_db_id: int) -> Row[Any] | None:
    """Return a live session by its internal key."""
    found = await db.execute(_FIND_BY_KEY, {"key": session_db_id})
    row: Row[Any] | None = found.first()
    return row


async def count_live(db: AsyncSession, owner_id: str) -> int:
    """Return how many live sessions a person has."""
    found = await db.execute(_LIVE, {"owner": owner_id})
    return found.scalar_one_or_none() or 0


async def count_events(db: AsyncSession, owner_id: str) -> tuple[int, datetime | None]:
    """Return how many events a person's live sessions have, and when the latest session was active."""
    total = func.coalesce(func.sum(sessions.c.last_seq), 0)
    statement: Select[Any] = select(total.label("total"), func.max(sessions.c.last_activity).label("newest"))
    found = await db.execute(statement.where(sessions.c.owner_id == owner_id, sessions.c.deleted_at.is_(None)))
    row = found.one()
    return int(row.total), row.newest


async def list_live(
    db: AsyncSession, owner_id: str, *, limit: int, before: tuple[datetime, int] | None, text: str | None
) -> list[Row[Any]]:
    """Return live sessions, the latest activity first; ``before`` is the (last_activity, db_id) of the last seen."""
    statement = _OWNED
    if before is not None:
        at, db_id = before
        statement = statement.where(
            or_(sessions.c.last_activity < at, and_(sessions.c.last_activity == at, sessions.c.db_id < db_id))
        )
    if text is not None:
        # Both sides by the database's own rules, so that they meet.
        pattern = "%" + re.sub(r"([/%_])", r"/\1", text) + "%"
        statement = statement.where(func.lower(sessions.c.title).like(func.lower(pattern), escape="/"))
    found = await db.execute(statement, {"owner": owner_id, "count": limit})
    return list(found)


async def set_fields(db: AsyncSession, session_db_id: int, **values: Any) -> None:
    """Change columns of a session and its ``updated_at``."""
    await db.execute(_SET, {"key": session_db_id, "updated_at": now(), **values})


async def mark_deleted(db: AsyncSession, session_db_id: int, owner_id: str) -> None:
    """Delete a session softly and uncount it."""
    at = now()
    values = {"deleted_at": at, "updated_at": at, "is_active": False}
    await db.execute(_SET, {"key": session_db_id, **values})
    add_to_count(db, owner_id, -1)


async def add_switch(
    db: AsyncSession,
    session: Row[Any],
    *,
    to_agent: str,
    reason: str,
    confidence: str | None,
    by: str,
) -> None:
    """Record a hand-over and make the agent the current one."""
    at = now()
    from_agent = await db.scalar(select(contexts.c.current_agent).where(contexts.c.id == session.context_id))
    await db.execute(
        insert(switches).values(
            id=new_id(),
            context_db_id=session.context_id,
            from_agent=from_agent,
            to_agent=to_agent,
            switched_at=at,
            reason=reason,
            confidence=confidence,
            switched_by=by,
        )
    )
    await db.execute(
        update(contexts)
        .where(contexts.c.id == session.context_id)
        .values(current_agent=to_agent, updated_at=at, switch_count=contexts.c.switch_count + 1)
    )


async def list_switches(db: AsyncSession, context_id: str) -> list[Row[Any]]:
    """Return the hand-overs of a session in order."""
    found = await db.execute(
        select(switches).where(switches.c.context_db_id == context_id).order_by(switches.c.switched_at, switches.c.id)
    )
    return list(found)
