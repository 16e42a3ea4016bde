"""Remove what module ``auth`` need not keep any longer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from codelab.auth.idempotency import remove_old
from codelab.auth.repository import audit, cleaning
from codelab.auth.repository.clients import delete_unused
from codelab.db import now
from codelab.db.upkeep import Batches
from codelab.db.wal import checkpoint
from codelab.storage.pruning import prune_chain

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Table

    from codelab.db import Database
    from codelab.db.chain import Chain
    from codelab.settings import AuthSettings

__all__ = ("clean", "prune_audit", "remove_expired", "remove_tokens")

#: Tokens that are looked up at once.
PAGE = 2000
#: How long codes and browser sessions are remembered after their end, to notice that one comes back.
KEEP_FLOWS = timedelta(days=1)
#: How long a client that registered itself may take to its first tokens.
KEEP_UNUSED = timedelta(days=7)


async def clean(
    database: Database, settings: AuthSettings, chain: Chain, batches: Batches | None = None
) -> dict[str, int]:
    """Do all of it once; return how many rows went, by what they were."""
    batches = batches or Batches(database)
    at = now()
    counts = {"refresh tokens": 0, "signing keys": 0, "audit rows": 0, "ended flows": 0, "unused clients": 0}
    counts["kept answers"] = await remove_old(batches)
    if (keep := settings.keep_ended_tokens) is not None:
        counts["refresh tokens"] = await remove_tokens(batches, at - keep)
    if (keep := settings.keep_expired_keys) is not None:
        expired = at - keep
        counts["signing keys"] = await database.write(lambda tx: cleaning.delete_keys(tx.session, expired))
    if (keep := settings.keep_audit) is not None:
        counts["audit rows"] = await prune_audit(database, batches, chain, at - keep)
    for table in cleaning.EXPIRING:
        counts["ended flows"] += await remove_expired(batches, table, at - KEEP_FLOWS)
    abandoned = at - KEEP_UNUSED
    counts["unused clients"] = await batches.run(lambda tx, limit: delete_unused(tx.session, abandoned, limit))
    if database.url.path is not None:
        await checkpoint(database.url.path)
    return counts


async def remove_tokens(batches: Batches, before: datetime) -> int:
    """Remove the refresh tokens that expired or were revoked before a time; return how many."""
    return await batches.run_through(
        lambda session: cleaning.list_ended_tokens(session, before, PAGE),
        PAGE,
        lambda tx, ids: cleaning.delete_tokens(tx.session, ids),
    )


async def remove_expired(batches: Batches, table: Table, before: datetime) -> int:
    """Remove rows that expired before a time; return how many."""
    return await batches.run(lambda tx, limit: cleaning.delete_expired(tx.session, table, before, limit))


async def prune_audit(database: Database, batches: Batches, chain: Chain, before: datetime) -> int:
    """Remove the oldest rows of the audit trail, behind a checkpoint with which the rest can still be verified.

    A part that somebody changed is not pruned: it is evidence. Returns how many rows were removed.
    """
    return await prune_chain(database, batches, chain, audit.AUDIT, before, "audit trail")
