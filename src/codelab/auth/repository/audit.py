"""SQL of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Table, select

from codelab.auth.models import AuditCheckpoint, AuditHead, AuditLog
from codelab.db.chain import ChainTables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain import Chain

__all__ = ("AUDIT", "AuditRow", "insert_audit_log", "list_audit_ids", "list_audit_rows")

#: The audit trail and the chain over it.
AUDIT = ChainTables(
    rows=cast("Table", AuditLog.__table__),
    head=cast("Table", AuditHead.__table__),
    checkpoints=cast("Table", AuditCheckpoint.__table__),
)


class AuditRow(NamedTuple):
    """A row as operators see it."""

    seq: int
    id: str
    event_type: str
    user_id: str | None
    client_id: str | None
    event_data: dict[str, Any] | None
    ip_address: str | None
    user_agent: str | None
    success: bool
    error_message: str | None
    created_at: datetime


def insert_audit_log(session: AsyncSession, chain: Chain, **values: Any) -> None:
    """Insert an audit row, right before the commit."""
    chain.append(session, **values)


async def list_audit_ids(session: AsyncSession, user_id: str) -> Sequence[str]:
    """List the ids of the audit rows that tell of a person."""
    rows = await session.execute(select(AUDIT.rows.c.id).where(AUDIT.rows.c.user_id == user_id))
    return rows.scalars().all()


async def list_audit_rows(
    session: AsyncSession, limit: int, before: int | None, event: str | None, user_id: str | None
) -> list[AuditRow]:
    """List rows, the newest first; of what is named: those before a ``seq``, of a type, about a person."""
    rows = AUDIT.rows.c
    statement = select(*(rows[name] for name in AuditRow._fields)).where(rows.seq.is_not(None))
    if before is not None:
        statement = statement.where(rows.seq < before)
    if event is not None:
        statement = statement.where(rows.event_type == event)
    if user_id is not None:
        statement = statement.where(rows.user_id == user_id)
    return [AuditRow(*row) for row in await session.execute(statement.order_by(rows.seq.desc()).limit(limit))]
