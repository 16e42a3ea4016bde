"""SQL of approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, insert, select, update

from codelab.agent.models import PendingApproval
from codelab.db import new_id, now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("LIMIT", "add", "find", "list_limits", "list_pending", "resolve")

approvals = cast("Table", PendingApproval.__table__)

#: The type of a question about a turn that has reached a limit; no tool call belongs to it.
LIMIT = "limit"


async def add(db: AsyncSession, **values: Any) -> None:
    """Insert a pending approval."""
    await db.execute(insert(approvals).values(id=new_id(), status="pending", created_at=now(), **values))


async def find(db: AsyncSession, session_db_id: int, request_id: str) -> Row[Any] | None:
    """Return an approval of a session, pending or decided."""
    found = await db.execute(
        select(approvals).where(approvals.c.session_db_id == session_db_id, approvals.c.request_id == request_id)
    )
    return found.first()


async def list_pending(db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
    """Return what waits for a person in a session, oldest first."""
    found = await db.execute(
        select(approvals)
        .where(approvals.c.session_db_id == session_db_id, approvals.c.status == "pending")
        .order_by(approvals.c.created_at, approvals.c.id)
    )
    return list(found)


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
            decided_arguments=arguments,
        )
        .returning(approvals.c.request_id)
    )
    return decided.first() is not None
