"""SQL of approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, bindparam, insert, select, update

from codelab.agent.repository.tables import approvals, sessions
from codelab.db import new_id, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("LIMIT", "add", "find", "list_limits", "list_overdue", "list_pending", "resolve")


#: The type of a question about a turn that has reached a limit; no tool call belongs to it.
LIMIT = "limit"

#: With the public id of the session. Built once: to build a statement anew costs more than to run it.
_SELECT: Select[Any] = select(approvals, sessions.c.id.label("session_id")).join(
    sessions, sessions.c.db_id == approvals.c.session_db_id
)
_FIND = _SELECT.where(approvals.c.session_db_id == bindparam("session"), approvals.c.request_id == bindparam("request"))
_PENDING = _SELECT.where(approvals.c.session_db_id == bindparam("session"), approvals.c.status == "pending").order_by(
    approvals.c.created_at, approvals.c.id
)
_OVERDUE = (
    select(approvals.c.session_db_id, approvals.c.request_id)
    .where(approvals.c.status == "pending", approvals.c.expires_at <= bindparam("at"))
    .order_by(approvals.c.expires_at)
    .limit(bindparam("count"))
)


async def add(db: AsyncSession, **values: Any) -> None:
    """Insert a pending approval."""
    await db.execute(insert(approvals).values(id=new_id(), status="pending", created_at=now(), **values))


async def find(db: AsyncSession, session_db_id: int, request_id: str) -> Row[Any] | None:
    """Return an approval of a session, pending or decided."""
    found = await db.execute(_FIND, {"session": session_db_id, "request": request_id})
    row: Row[Any] | None = found.first()
    return row


async def list_pending(db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
    """Return what waits for a person in a session, oldest first."""
    return list(await db.execute(_PENDING, {"session": session_db_id}))


async def list_overdue(db: AsyncSession, at: datetime, limit: int) -> list[Row[Any]]:
    """Return (``session_db_id``, ``request_id``) of pending approvals whose time was over at ``at``."""
    return list(await db.execute(_OVERDUE, {"at": at, "count": limit}))


async def list_limits(db: AsyncSession, turn_db_id: int) -> list[Row[Any]]:
    """Return every question about a limit of a turn, pending or decided."""
    found = await db.execute(
        select(approvals).where(approvals.c.turn_db_id == turn_db_id, approvals.c.request_type == LIMIT)
    )
    return list(found)


async def resolve(
    db: AsyncSession,
    request_id: str,
    *,
    status: str,
    decision: str | None,
    decided_by: str | None,
    client_id: str | None = None,
    feedback: str | None = None,
    arguments: str | None = None,
) -> bool:
    """Decide a pending approval by compare-and-set; False when it was decided already."""
    decided = await db.execute(
        update(approvals)
        .where(approvals.c.request_id == request_id, approvals.c.status == "pending")
        .values(
            status=status,
            decision=decision,
            decision_at=now(),
            decision_reason=feedback,
            decided_by=decided_by,
            decided_client_id=client_id,
            decided_arguments=arguments,
        )
        .returning(approvals.c.request_id)
    )
    return decided.first() is not None
