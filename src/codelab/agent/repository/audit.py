"""SQL of the audit trail of agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import Table, select

from codelab.agent.models import AgentAudit, AgentAuditCheckpoint, AgentAuditHead
from codelab.db.chain import ChainTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("AUDIT", "list_audit_ids")

#: The audit trail and the chain over it.
AUDIT = ChainTables(
    rows=cast("Table", AgentAudit.__table__),
    head=cast("Table", AgentAuditHead.__table__),
    checkpoints=cast("Table", AgentAuditCheckpoint.__table__),
)


async def list_audit_ids(session: AsyncSession, person_id: str) -> Sequence[str]:
    """List the ids of the audit rows that tell of a person, as the owner of a session or as who did it."""
    rows = AUDIT.rows
    theirs = (rows.c.owner_id == person_id) | (rows.c.actor_id == person_id)
    found = await session.execute(select(rows.c.id).where(theirs))
    return found.scalars().all()
