"""SQL of removing deleted sessions with all that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Select, Table, delete, select

from codelab.agent.models import (
    AgentContext,
    AgentSwitch,
    ContextSummary,
    Grant,
    McpServer,
    Message,
    MessageImage,
    PendingApproval,
    ToolCall,
    Turn,
)
from codelab.agent.repository.tables import contexts, events, folded, sessions, switches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, CursorResult, Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("CHILDREN", "Child", "list_deleted", "list_keys", "remove_events", "remove_rows", "remove_session")


class Child(NamedTuple):
    """A table with rows of sessions, and its primary key."""

    table: Table
    key: ColumnElement[Any]


def _child(model: type[Any], key: str) -> Child:
    table = cast("Table", model.__table__)
    return Child(table, table.c[key])


#: What belongs to a session beside its log: children before parents.
CHILDREN = (
    _child(AgentSwitch, "id"),
    _child(ContextSummary, "id"),
    _child(PendingApproval, "id"),
    _child(Grant, "db_id"),
    _child(McpServer, "db_id"),
    _child(ToolCall, "db_id"),
    _child(MessageImage, "message_id"),
    _child(Message, "id"),
    _child(Turn, "db_id"),
    _child(AgentContext, "id"),
)


async def list_deleted(db: AsyncSession, before: datetime, limit: int) -> list[Row[Any]]:
    """Return (``db_id``, ``last_seq``) of sessions that were deleted before a time, the oldest first."""
    statement: Select[Any] = (
        select(sessions.c.db_id, sessions.c.last_seq)
        .where(sessions.c.deleted_at.is_not(None), sessions.c.deleted_at < before)
        .order_by(sessions.c.deleted_at)
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


async def remove_events(db: AsyncSession, session_db_id: int, first: int, last: int) -> int:
    """Remove a part of a session's log; return how many rows."""
    part = (events.c.session_db_id == session_db_id) & events.c.seq.between(first, last)
    return cast("CursorResult[Any]", await db.execute(delete(events).where(part))).rowcount


async def list_keys(db: AsyncSession, child: Child, session_db_id: int, after: Any, limit: int) -> list[Any]:
    """Return keys of a session's rows in order; ``after`` is the last one seen, None at first."""
    own: ColumnElement[bool]
    if child.table is switches:
        own = switches.c.context_db_id.in_(select(contexts.c.id).where(contexts.c.session_db_id == session_db_id))
    else:
        own = child.table.c.session_db_id == session_db_id
    statement: Select[Any] = select(child.key).where(own).order_by(child.key).limit(limit)
    if after is not None:
        statement = statement.where(child.key > after)
    return list((await db.execute(statement)).scalars())


async def remove_rows(db: AsyncSession, child: Child, keys: Sequence[Any]) -> int:
    """Remove rows by their keys; return how many."""
    return cast("CursorResult[Any]", await db.execute(delete(child.table).where(child.key.in_(keys)))).rowcount


async def remove_session(db: AsyncSession, session_db_id: int) -> int:
    """Remove a deleted session itself, with the few rows of what was folded of it; return how many."""
    own = select(sessions.c.db_id).where(sessions.c.db_id == session_db_id, sessions.c.deleted_at.is_not(None))
    ranges = cast("CursorResult[Any]", await db.execute(delete(folded).where(folded.c.session_db_id.in_(own))))
    rows = cast("CursorResult[Any]", await db.execute(delete(sessions).where(sessions.c.db_id.in_(own))))
    return ranges.rowcount + rows.rowcount
