"""Messages whose turn has not begun: what waits, and taking one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.ownership import require_session
from codelab.agent.repository import messages, turns
from codelab.agent.schemas import Queue, QueuedTurn, TurnState
from codelab.agent.turns.images import infos
from codelab.errors import Conflict, NotFound

if TYPE_CHECKING:
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("QueueService",)


class QueueService:
    """List the turns that wait in a session, and remove one before it starts."""

    def __init__(self, database: Database, transitions: Transitions) -> None:
        self._database = database
        self._transitions = transitions

    async def list(self, principal: Principal, session_id: str) -> Queue:
        """Return the turns that wait, in the order in which they will run."""
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            rows = await turns.list_queued(db, session.db_id)
        queue = [
            QueuedTurn(row.id, row.message_id, row.content, row.created_at, list(infos(row)) or None) for row in rows
        ]
        return Queue(session_id=session.id, queue=queue, count=len(queue))

    async def remove(self, principal: Principal, session_id: str, turn_id: str) -> TurnState:
        """Cancel a turn that has not begun; no model sees its message.

        Raises:
            NotFound: no such session of this person, or no such turn in it.
            Conflict: it has begun, or ended.
        """

        async def unit(tx: Transaction) -> TurnState:
            session = await require_session(tx.session, principal, session_id)
            turn = await turns.find(tx.session, session.db_id, turn_id)
            if turn is None:
                raise NotFound("This session has no such turn.", code="unknown_turn")
            if turn.state != "queued":
                raise Conflict(f"This turn does not wait any more: {turn.state}.", code="turn_started")
            await self._transitions.cancel(tx, turn, "Removed from the queue by the user")
            await messages.withdraw(tx.session, turn.message_id)
            return TurnState(turn_id=turn.id, state="cancelled")

        return await self._database.write(unit)
