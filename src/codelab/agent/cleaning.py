"""Remove what module ``agent`` need not keep any longer.

Messages go with their session only. Tool calls and approvals of ended turns stay: they answer a client that repeats
itself, and say who allowed what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.folding import fold
from codelab.agent.idempotency import remove_old
from codelab.agent.repository import removal
from codelab.agent.repository.audit import AUDIT
from codelab.db import now
from codelab.db.upkeep import Batches
from codelab.db.wal import checkpoint
from codelab.storage.pruning import prune_chain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from codelab.db import Database, Transaction
    from codelab.db.chain import Chain
    from codelab.settings import AgentSettings

__all__ = ("clean", "remove_deleted")

#: Sessions, and keys of one session's rows, that are looked up at once.
PAGE, KEYS = 100, 2000


async def clean(
    database: Database, settings: AgentSettings, chain: Chain | None = None, batches: Batches | None = None
) -> dict[str, int]:
    """Do all of it once; return how many rows went, by what they were."""
    batches = batches or Batches(database)
    at = now()
    counts = {"deltas": 0, "rows of deleted sessions": 0, "kept answers": 0, "audit rows": 0}
    if settings.keep_deltas is not None:
        counts["deltas"] = await fold(database, batches, at - settings.keep_deltas)
    if settings.keep_deleted_sessions is not None:
        counts["rows of deleted sessions"] = await remove_deleted(
            database, batches, at - settings.keep_deleted_sessions
        )
    counts["kept answers"] = await remove_old(batches)
    if settings.keep_audit is not None and chain is not None:
        before = at - settings.keep_audit
        counts["audit rows"] = await prune_chain(database, batches, chain, AUDIT, before, "audit trail of agents")
    if database.url.path is not None:
        await checkpoint(database.url.path)
    return counts


async def remove_deleted(database: Database, batches: Batches, before: datetime) -> int:
    """Remove the sessions that were deleted before a time, with all their rows; return how many rows."""
    removed = 0
    while True:
        async with database.read() as db:
            found = await removal.list_deleted(db, before, PAGE)
        for session in found:
            removed += await _remove(database, batches, session.db_id, session.last_seq)
        if len(found) < PAGE:
            return removed


async def _remove(database: Database, batches: Batches, session_db_id: int, last_seq: int) -> int:
    async def remove_events(tx: Transaction, first: int, last: int) -> int:
        return await removal.remove_events(tx.session, session_db_id, first, last)

    removed = await batches.run_down(1, last_seq, remove_events)
    for child in removal.CHILDREN:

        async def remove_rows(tx: Transaction, keys: Sequence[Any], child: removal.Child = child) -> int:
            return await removal.remove_rows(tx.session, child, keys)

        seen = None
        while True:
            async with database.read() as db:
                keys = await removal.list_keys(db, child, session_db_id, seen, KEYS)
            removed += await batches.run_over(keys, remove_rows)
            if len(keys) < KEYS:
                break
            seen = keys[-1]
    return removed + await database.write(lambda tx: removal.remove_session(tx.session, session_db_id))
