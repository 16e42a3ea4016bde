"""Messages that steer: they join the active turn at its next model call.

Until then such a message has a queued turn of its own, which says which turn it is meant for. So it can be taken back
like any that waits, and is answered by itself when that turn ends without taking it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.repository import messages, turns

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.log import EventLog
    from codelab.db import Transaction

__all__ = ("STEERS", "has_steering", "take_steering")

#: Member of a message's metadata: the id of the turn that it is meant for.
STEERS = "steers"


async def has_steering(tx: Transaction, turn: Row[Any]) -> bool:
    """Tell whether a message waits to join a turn."""
    return bool(await _list(tx, turn))


async def take_steering(log: EventLog, tx: Transaction, turn: Row[Any]) -> None:
    """Let the messages that wait for it join a turn, between two of its model calls.

    The event gives each its place in the transcript: after everything that was said and answered before.
    """
    waiting = await _list(tx, turn)
    if not waiting:
        return
    new = [("message.steered", {"message_id": row.message_id, "turn_id": turn.id}) for row in waiting]
    last = await log.append(tx, turn.session_db_id, *new)
    for seq, row in enumerate(waiting, start=last - len(waiting) + 1):
        await messages.move(tx.session, row.message_id, turn.db_id, seq)
        await turns.remove(tx.session, row.db_id)


async def _list(tx: Transaction, turn: Row[Any]) -> list[Row[Any]]:
    queued = await turns.list_marked(tx.session, turn.session_db_id)
    return [row for row in queued if row.metadata_json.get(STEERS) == turn.id]
