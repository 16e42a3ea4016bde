"""Remove the oldest rows of a chain, behind a checkpoint with which the rest can still be verified."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from codelab.storage.chain import verify_chain

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db import Database
    from codelab.db.chain import Chain, ChainTables
    from codelab.db.upkeep import Batches

__all__ = ("prune_chain",)

logger = logging.getLogger(__name__)


async def prune_chain(
    database: Database, batches: Batches, chain: Chain, tables: ChainTables, before: datetime, name: str
) -> int:
    """Remove the rows before a time; return how many. ``name`` is what a line in the log calls the chain.

    A part that somebody changed is not pruned: it is evidence.
    """
    async with database.read() as session:
        pruned = await _pruned_seq(session, tables)
        until = await _last_seq_before(session, tables, before)
        if until > pruned:
            findings = await verify_chain(session, name, tables, chain.key, until)
            faults = [finding.detail for finding in findings if finding.severity == "fault"]
            if faults:
                logger.error("The %s is not pruned, since it was changed: %s", name, "; ".join(faults))
                until = pruned
    if until > pruned:
        reason = f"older than {before:%Y-%m-%d}"
        await database.write(lambda tx: chain.cut(tx.session, until, reason))
        pruned = until
    return await batches.run(lambda tx, limit: _delete(tx.session, tables, pruned, limit))


async def _pruned_seq(session: AsyncSession, tables: ChainTables) -> int:
    points = tables.checkpoints.c
    found = await session.execute(select(func.coalesce(func.max(points.seq), 0)).where(points.kind == "pruned"))
    return int(found.scalar_one())


async def _last_seq_before(session: AsyncSession, tables: ChainTables, before: datetime) -> int:
    rows: Any = tables.rows.c
    first_kept = select(func.min(rows.seq)).where(rows.created_at >= before).scalar_subquery()
    found = await session.execute(
        select(func.coalesce(func.max(rows.seq), 0)).where(
            rows.seq.is_not(None),
            rows.seq < func.coalesce(first_kept, select(tables.head.c.seq).scalar_subquery() + 1),
        )
    )
    return int(found.scalar_one())


async def _delete(session: AsyncSession, tables: ChainTables, until: int, limit: int) -> int:
    rows = tables.rows
    found = await session.execute(select(rows.c.seq).where(rows.c.seq <= until).order_by(rows.c.seq).limit(limit))
    seqs = list(found.scalars())
    if seqs:
        await session.execute(delete(rows).where(rows.c.seq <= seqs[-1]))
    return len(seqs)
