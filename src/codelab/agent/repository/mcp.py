"""SQL of the MCP servers of sessions, and of the calls of their tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, insert, select, update

from codelab.agent.repository.tables import calls, servers, sessions
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "add",
    "find_server",
    "find_waiting_call",
    "list_servers",
    "list_waiting_calls",
    "list_waiting_of",
    "remove",
    "set_fields",
)


async def add(db: AsyncSession, **values: Any) -> None:
    """Insert a server."""
    await db.execute(insert(servers).values(created_at=now(), updated_at=now(), **values))


async def list_servers(db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
    """Return the servers of a session in the order in which they were added."""
    statement: Select[Any] = select(servers).where(servers.c.session_db_id == session_db_id).order_by(servers.c.db_id)
    return list((await db.execute(statement)).all())


async def find_server(db: AsyncSession, session_db_id: int, server_id: str) -> Row[Any] | None:
    """Return a server of a session by its public id."""
    found = await db.execute(select(servers).where(servers.c.session_db_id == session_db_id, servers.c.id == server_id))
    row: Row[Any] | None = found.first()
    return row


async def set_fields(db: AsyncSession, server_db_id: int, **values: Any) -> None:
    """Change a server."""
    await db.execute(update(servers).where(servers.c.db_id == server_db_id).values(updated_at=now(), **values))


async def remove(db: AsyncSession, server_db_id: int) -> None:
    """Delete a server."""
    await db.execute(delete(servers).where(servers.c.db_id == server_db_id))


async def find_waiting_call(db: AsyncSession, call_db_id: int) -> Row[Any] | None:
    """Return a call that may run and that nobody runs."""
    found = await db.execute(select(calls).where(calls.c.db_id == call_db_id, *_WAITING))
    row: Row[Any] | None = found.first()
    return row


async def list_waiting_calls(db: AsyncSession, prefix: str) -> list[Row[Any]]:
    """Return the key and tool of all calls that nobody runs and that may run, of tools that begin with ``prefix``."""
    statement: Select[Any] = (
        select(calls.c.db_id, calls.c.tool_name)
        .join(sessions, sessions.c.db_id == calls.c.session_db_id)
        .where(*_WAITING, calls.c.tool_name.startswith(prefix, autoescape=True), sessions.c.deleted_at.is_(None))
        .order_by(calls.c.db_id)
    )
    return list((await db.execute(statement)).all())


async def list_waiting_of(db: AsyncSession, session_db_id: int, prefix: str) -> list[int]:
    """Return the keys of those of one session."""
    named = calls.c.tool_name.startswith(prefix, autoescape=True)
    statement = select(calls.c.db_id).where(*_WAITING, calls.c.session_db_id == session_db_id, named)
    return list((await db.execute(statement)).scalars())


_WAITING = (calls.c.state == "requested", calls.c.claimed_by.is_(None))
