"""SQL of importing whole sessions: rows as they will stay, in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, exists, insert, select

from codelab.agent.models import (
    AgentSwitch,
    Message,
    PendingApproval,
    SessionEvent,
    ToolCall,
)
from codelab.agent.repository.sessions import add_to_count
from codelab.agent.repository.tables import contexts, sessions, turns

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add_rows", "add_session", "add_turns", "has_live_session", "is_imported", "taken_ids")

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        cast("Table", model.__table__) for model in (AgentSwitch, Message, ToolCall, PendingApproval, SessionEvent)
    )
}
#: Values of one ``IN`` list, and rows of one statement: SQLite takes 32,766 parameters.
_CHUNK = 500


async def is_imported(db: AsyncSession, context_ids: Collection[str]) -> bool:
    """Tell whether a session was made with one of these ids of its agent context."""
    return bool((await db.execute(select(exists().where(contexts.c.id.in_(context_ids))))).scalar_one())


async def has_live_session(db: AsyncSession, owner_id: str, session_id: str) -> bool:
    """Tell whether a person has a session with that id that is not deleted."""
    same = (sessions.c.owner_id == owner_id) & (sessions.c.id == session_id) & sessions.c.deleted_at.is_(None)
    return bool((await db.execute(select(exists().where(same)))).scalar_one())


async def taken_ids(db: AsyncSession, table: str, column: str, ids: Collection[str]) -> set[str]:
    """Return which of the ids are in a column already."""
    wanted, taken = list(ids), set[str]()
    target = TABLES[table].c[column]
    for start in range(0, len(wanted), _CHUNK):
        found = await db.execute(select(target).where(target.in_(wanted[start : start + _CHUNK])))
        taken.update(found.scalars())
    return taken


async def add_session(db: AsyncSession, session: dict[str, Any], context: dict[str, Any]) -> int:
    """Insert a session with its context, count it unless it is deleted, and return its internal key."""
    added = await db.execute(insert(sessions).values(session).returning(sessions.c.db_id))
    db_id: int = added.scalar_one()
    await db.execute(insert(contexts).values(session_db_id=db_id, **context))
    if session["deleted_at"] is None:
        add_to_count(db, session["owner_id"], 1)
    return db_id


async def add_turns(db: AsyncSession, rows: list[dict[str, Any]]) -> list[int]:
    """Insert turns and return their internal keys, which keep their order."""
    keys: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        statement = insert(turns).returning(turns.c.db_id, sort_by_parameter_order=True)
        keys += (await db.execute(statement, rows[start : start + _CHUNK])).scalars()
    return keys


async def add_rows(db: AsyncSession, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    for start in range(0, len(rows), _CHUNK):
        await db.execute(insert(TABLES[table]), rows[start : start + _CHUNK])
