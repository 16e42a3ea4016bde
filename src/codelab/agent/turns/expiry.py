"""Approvals that nobody decided in time: their call is not run, the model is told so, and the turn goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.repository import approvals, turns
from codelab.agent.turns.calls import UNKNOWN_OUTCOME
from codelab.agent.turns.claims import unknown_outcome
from codelab.db import now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

    from codelab.agent.inbox import Inbox
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction

__all__ = ("Expiry", "is_overdue")

#: Approvals that are looked up at once.
PAGE = 100
EXPIRED = "Nobody decided about this in time, so it was not run."


def is_overdue(row: Row[Any], at: datetime) -> bool:
    """Tell whether the time of an approval is over."""
    return row.expires_at is not None and row.expires_at <= at


class Expiry:
    """End the approvals whose time is over. Each is one unit of work, and what a crash leaves comes again."""

    def __init__(
        self, database: Database, transitions: Transitions, calls: CallTransitions, inbox: Inbox, runner: Runner
    ) -> None:
        self._database = database
        self._transitions = transitions
        self._calls = calls
        self._inbox = inbox
        self._runner = runner

    async def expire_overdue(self) -> None:
        """End all of them; called again and again."""
        while True:
            async with self._database.read() as db:
                page = await approvals.list_overdue(db, now(), PAGE)
            for row in page:
                await self.expire(row.session_db_id, row.request_id)
            if len(page) < PAGE:
                return

    async def expire(self, session_db_id: int, request_id: str) -> None:
        """End one approval, unless it was decided meanwhile."""

        async def unit(tx: Transaction) -> None:
            row = await approvals.find(tx.session, session_db_id, request_id)
            if row is None or row.status != "pending" or not is_overdue(row, now()):
                return
            await approvals.resolve(tx.session, request_id, status="expired", decision=None, decided_by=None)
            turn = await turns.find_active(tx.session, session_db_id)
            if turn is None or turn.db_id != row.turn_db_id:  # it asked about nothing
                self._inbox.changed(tx, row.owner_id, request_id)
                return
            await self._calls.tell_resolved(tx, turn, row, "expired", None, msgspec.json.decode(row.arguments))
            await self._go_on(tx, turn, row)

        await self._database.write(unit)

    async def _go_on(self, tx: Transaction, turn: Row[Any], row: Row[Any]) -> None:
        if row.request_type == approvals.LIMIT:
            await self._transitions.cancel(tx, turn, "Stopped at a limit, since nobody decided in time")
            tx.after_commit(lambda: self._runner.wake(turn.session_db_id))
            return
        call = await turns.find_call(tx.session, row.session_db_id, row.call_id)
        assert call is not None
        if row.request_type == UNKNOWN_OUTCOME:
            await self._calls.answer(tx, turn, call, "failed", error=unknown_outcome(None))
        else:
            result = {"status": "expired", "tool_name": row.tool_name, "feedback": EXPIRED}
            await self._calls.answer(tx, turn, call, "cancelled", result=result)
        await self._runner.resume_when_answered(tx, turn)
