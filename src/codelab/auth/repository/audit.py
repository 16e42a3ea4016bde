"""SQL of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, select

from codelab.auth.models import AuditCheckpoint, AuditHead, AuditLog
from codelab.db.chain import ChainTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain import Chain

__all__ = ("AUDIT", "insert_audit_log", "list_audit_ids")

#: The audit trail and the chain over it.
AUDIT = ChainTables(
    rows=cast("Table", AuditLog.__table__),
    head=cast("Table", AuditHead.__table__),
    checkpoints=cast("Table", AuditCheckpoint.__table__),
)


def insert_audit_log(session: AsyncSession, chain: Chain, **values: Any) -> None:
    """Insert an audit row, right before the commit."""
    chain.append(session, **values)


async def list_audit_ids(session: AsyncSession, user_id: str) -> Sequence[str]:
    """List the ids of the audit rows that tell of a person."""
    rows = await session.execute(select(AUDIT.rows.c.id).where(AUDIT.rows.c.user_id == user_id))
    return rows.scalars().all()
