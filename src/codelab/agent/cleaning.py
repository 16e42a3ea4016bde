"""Remove what module ``agent`` need not keep any longer.

Messages go with their session only. Tool calls and approvals of ended turns stay: they answer a client that repeats
itself, and say who allowed what.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from codelab.agent.folding import fold
from codelab.agent.idempotency import KEPT
from codelab.agent.repository import answers, removal
from codelab.db import now
from codelab.db.upkeep import Batches
from codelab.db.wal import checkpoint

if TYPE_CHECKING:
    from datetime import datetime

    from codelab.db import Database, Transaction
    from codelab.settings import AgentSettings

__all__ = ("clean", "remove_deleted")

#: Sessions that are looked up at once.
PAGE = 100


async def clean(database: Database, settings: AgentSettings, batches: Batches | None = None) -> dict[str, int]:
    """Do all of it once; return how many rows went, by what they were."""
    batches = batches or Batches(database)
    at = now()
    counts = {"deltas": 0, "rows of deleted sessions": 0, "kept answers": 0}
    if settings.keep_deltas is not None:
        counts["deltas"] = await fold(database, batches, at - settings.keep_deltas)
    if settings.keep_deleted_sessions is not None:
        counts["rows of deleted sessions"] = await remove_deleted(
            database, batches, at - settings.keep_deleted_sessions
        )
    counts["kept answers"] = await batches.run(partial(_forget, at - KEPT))
    if database.url.path is not None:
        await checkpoint(database.url.path)
    return counts


async def remove_deleted(database: Database, batches: Batches, before: datetime) -> int:
    """Remove the sessions that were deleted before a time, with all their rows; return how many rows."""
    removed = 0
    while True:
        async with database.read() as db:
            found = await removal.list_deleted(db, before, PAGE)
        for session_db_id in found:
            removed += await batches.run(partial(_remove, session_db_id))
        if len(found) < PAGE:
            return removed


async def _remove(session_db_id: int, tx: Transaction, limit: int) -> int:
    return await removal.remove_some(tx.session, session_db_id, limit)


async def _forget(before: datetime, tx: Transaction, limit: int) -> int:
    return await answers.remove_before(tx.session, before, limit)
