"""What a decision does to its call and its turn, inside one unit of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.repository import approvals, claims, turns
from codelab.agent.turns.calls import UNKNOWN_OUTCOME
from codelab.agent.turns.claims import unknown_outcome
from codelab.text import canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Transaction
    from codelab.identity import Principal

__all__ = ("Decisions",)


class Decisions:
    """Carry out decisions that were taken."""

    def __init__(self, transitions: Transitions, calls: CallTransitions, runner: Runner) -> None:
        self._transitions = transitions
        self._calls = calls
        self._runner = runner

    async def carry_out(
        self,
        tx: Transaction,
        turn: Row[Any],
        row: Row[Any],
        status: str,
        decision: str,
        arguments: dict[str, Any],
        feedback: str | None,
        principal: Principal,
        *,
        offer: bool = True,
    ) -> None:
        """Do what was decided about a call or a limit; without ``offer`` no client is offered the call."""
        await self._calls.tell_resolved(
            tx,
            turn,
            row,
            status,
            decision,
            arguments,
            feedback=feedback,
            decided_by=principal.subject,
            client_id=principal.client_id,
        )
        if row.request_type == approvals.LIMIT:
            await self._go_on_or_end(tx, turn, status, feedback)
            return
        call = await turns.find_call(tx.session, row.session_db_id, row.call_id)
        assert call is not None
        if status == "approved":
            edited = decision == "edit" or call.edited
            await turns.request_call(tx.session, call.db_id, canonical_json(arguments), edited=edited)
            if row.request_type == UNKNOWN_OUTCOME:
                await claims.offer_again(tx.session, call.db_id)
            fresh = await turns.find_call(tx.session, row.session_db_id, row.call_id)
            assert fresh is not None
            if offer:
                await self._calls.request(tx, turn, fresh, arguments, approval_id=row.request_id)
                await self._runner.resume_when_answered(tx, turn)  # codelab does some calls itself, at once
            return
        if row.request_type == UNKNOWN_OUTCOME:
            await self._calls.answer(tx, turn, call, "failed", error=unknown_outcome(feedback))
        else:
            result = {
                "status": "rejected",
                "tool_name": row.tool_name,
                "feedback": feedback or "User rejected this operation",
            }
            await self._calls.answer(tx, turn, call, "rejected", result=result)
        await self._runner.resume_when_answered(tx, turn)

    async def reject(self, tx: Transaction, turn: Row[Any], row: Row[Any], by: Principal, feedback: str) -> None:
        """Reject what waits, in the name of a person."""
        await approvals.resolve(
            tx.session,
            row.request_id,
            status="rejected",
            decision="reject",
            decided_by=by.subject,
            client_id=by.client_id,
            feedback=feedback,
            arguments=row.arguments,
        )
        arguments = msgspec.json.decode(row.arguments)
        await self.carry_out(tx, turn, row, "rejected", "reject", arguments, feedback, by)

    async def _go_on_or_end(self, tx: Transaction, turn: Row[Any], status: str, feedback: str | None) -> None:
        if status == "approved":
            await self._runner.resume_when_answered(tx, turn)
            return
        await self._transitions.cancel(tx, turn, feedback or "Stopped by the user at a limit")
        tx.after_commit(lambda: self._runner.wake(turn.session_db_id))
