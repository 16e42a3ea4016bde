"""SQL of removing deleted sessions with all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Select, Table, delete, select

from codelab.agent.models import (
    AgentContext,
    AgentSwitch,
    FoldedRange,
    Message,
    PendingApproval,
    Session,
    SessionEvent,
    ToolCall,
    Turn,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("list_deleted", "remove_some")

sessions = cast("Table", Session.__table__)
contexts = cast("Table", AgentContext.__table__)
switches = cast("Table", AgentSwitch.__table__)


def _table(model: type[Any], key: str) -> tuple[Table, ColumnElement[Any], ColumnElement[Any]]:
    table = cast("Table", model.__table__)
    return table, table.c[key], table.c.session_db_id


#: Children before parents, each with what tells its rows of one session apart.
_CHILDREN = (
    _table(SessionEvent, "seq"),
    _table(FoldedRange, "completed_seq"),
    _table(PendingApproval, "id"),
    _table(ToolCall, "db_id"),
    _table(Message, "id"),
    _table(Turn, "db_id"),
    _table(AgentContext, "id"),
)


async def list_deleted(db: AsyncSession, before: datetime, limit: int) -> list[int]:
    """Return sessions that were deleted before a time, the oldest first."""
    statement: Select[Any] = (
        select(sessions.c.db_id)
        .where(sessions.c.deleted_at.is_not(None), sessions.c.deleted_at < before)
        .order_by(sessions.c.deleted_at)
        .limit(limit)
    )
    return list((await db.execute(statement)).scalars())


async def remove_some(db: AsyncSession, session_db_id: int, limit: int) -> int:
    """Remove ``limit`` rows of a deleted session at most, the session itself last; return how many.

    Fewer than ``limit`` means that nothing of it is left.
    """
    own_contexts = select(contexts.c.id).where(contexts.c.session_db_id == session_db_id)
    removed = await _remove(db, switches, switches.c.id, switches.c.context_db_id.in_(own_contexts), limit)
    for table, key, session in _CHILDREN:
        if removed >= limit:
            return removed
        removed += await _remove(db, table, key, session == session_db_id, limit - removed)
    if removed >= limit:
        return removed
    dead = (sessions.c.db_id == session_db_id) & sessions.c.deleted_at.is_not(None)
    return removed + await _remove(db, sessions, sessions.c.db_id, dead, 1)


async def _remove(
    db: AsyncSession, table: Table, key: ColumnElement[Any], where: ColumnElement[bool], limit: int
) -> int:
    keys = list((await db.execute(select(key).where(where).limit(limit))).scalars())
    if keys:
        await db.execute(delete(table).where(where, key.in_(keys)))
    return len(keys)
