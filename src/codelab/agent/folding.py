"""Fold the log: a message that is complete needs no deltas, once nobody follows its turn any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from codelab.agent.repository import folding

if TYPE_CHECKING:
    from datetime import datetime

    from codelab.db import Database, Transaction
    from codelab.db.upkeep import Batches

__all__ = ("fold",)

#: Turns that are looked up at once.
PAGE = 100


async def fold(database: Database, batches: Batches, before: datetime) -> int:
    """Delete the deltas of the turns that ended before a time; return how many.

    It may be interrupted anywhere and goes on at the next call: what is about to be deleted is told before, the text
    is in ``message.completed``, and a turn counts as folded when nothing of it is left to do.
    """
    deleted = 0
    while True:
        async with database.read() as db:
            found = await folding.list_unfolded(db, before, PAGE)
        for turn in found:
            deleted += await _fold_turn(database, batches, turn.session_db_id, turn.db_id)
        if len(found) < PAGE:
            return deleted


async def _fold_turn(database: Database, batches: Batches, session_db_id: int, turn_db_id: int) -> int:
    async with database.read() as db:  # nothing is added to a turn that has ended, so it may be measured before
        measured = await folding.measure(db, session_db_id, turn_db_id)
    if not measured:
        await database.write(lambda tx: folding.mark_folded(tx.session, turn_db_id))
        return 0
    if not await database.write(lambda tx: folding.keep(tx.session, session_db_id, turn_db_id, measured)):
        return 0
    deleted = 0
    for each in measured:  # from the end: a reader meets what is left of a message before the event that replaces it
        deleted += await batches.run_down(each.first_seq, each.last_seq, partial(_delete, session_db_id))
    await database.write(lambda tx: folding.mark_folded(tx.session, turn_db_id))
    return deleted


async def _delete(session_db_id: int, tx: Transaction, first: int, last: int) -> int:
    return await folding.delete_deltas(tx.session, session_db_id, first, last)
