"""What waits for a person, and the decisions about it. Each is one unit of work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent import gate
from codelab.agent.grants import make_grant
from codelab.agent.idempotency import write_once
from codelab.agent.ownership import PUBLIC_ID, require_session
from codelab.agent.repository import approvals, claims, turns
from codelab.agent.schemas import Approval
from codelab.agent.tools import InvalidArguments
from codelab.agent.turns.calls import UNKNOWN_OUTCOME
from codelab.agent.turns.claims import unknown_outcome
from codelab.errors import BadRequest, Conflict, NotFound
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.idempotency import Once
    from codelab.agent.policy import Policy
    from codelab.agent.schemas import GrantRequest
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("ApprovalService",)


class ApprovalService:
    """List approvals and take decisions from people."""

    def __init__(
        self,
        database: Database,
        transitions: Transitions,
        calls: CallTransitions,
        runner: Runner,
        agents: Mapping[str, Agent],
        policy: Policy,
    ) -> None:
        self._database = database
        self._transitions = transitions
        self._policy = policy
        self._calls = calls
        self._runner = runner
        self._agents = agents

    async def decide(
        self,
        principal: Principal,
        session_id: str,
        approval_id: str,
        decision: str,
        modified: dict[str, Any] | None,
        feedback: str | None,
        once: Once | None = None,
        *,
        grant: GrantRequest | None = None,
    ) -> Approval:
        """Take a person's decision about a call, or about a turn at a limit, and what they grant beside it.

        It is taken once, by compare-and-set.

        Raises:
            BadRequest: the modified arguments are missing, do not fit the tool, or the policy denies them; it is an
                edit of a limit; or what was decided cannot be granted.
            NotFound: no such session of this person, or no such approval in it.
            Conflict: it was decided already; the decision is in the problem's member ``approval``. Or the policy
                has changed since it was asked, and denies it.
        """
        if decision == "reject" and grant is not None:
            raise BadRequest("grant: is not for reject", field="grant")

        async def unit(tx: Transaction) -> Approval:
            return await self.take_decision(
                tx, principal, session_id, approval_id, decision, modified, feedback, grant=grant
            )

        route, values = ("approvals", session_id, approval_id), [decision, modified, feedback]
        if grant is not None:
            values.append(msgspec.to_builtins(grant))
        return await write_once(self._database, once, principal, route, values, unit, Approval)

    async def take_decision(
        self,
        tx: Transaction,
        principal: Principal,
        session_id: str,
        approval_id: str,
        decision: str,
        modified: dict[str, Any] | None = None,
        feedback: str | None = None,
        *,
        grant: GrantRequest | None = None,
        offer: bool = True,
    ) -> Approval:
        """Take a decision inside a unit of work; without ``offer`` an approved call is offered to no client.

        That is for who brings its result with the decision. Raises what ``decide`` raises.
        """
        session = await require_session(tx.session, principal, session_id)
        known = re.fullmatch(PUBLIC_ID, approval_id)
        row = await approvals.find(tx.session, session.db_id, approval_id) if known else None
        _check_decision(row, decision, modified)
        if row is None:
            raise NotFound("This session has no such approval.", code="unknown_approval")
        if row.status != "pending":
            decided = msgspec.to_builtins(Approval.from_row(row))
            raise Conflict(
                f"This was decided already: {row.status}.", code="approval_decided", extra={"approval": decided}
            )
        arguments = msgspec.json.decode(row.arguments)
        if modified is not None:
            arguments = self._check_edit(row, modified)
        elif decision == "approve" and row.request_type != approvals.LIMIT:
            self._check_again(row, arguments)
        turn = await turns.find_active(tx.session, row.session_db_id)
        assert turn is not None
        given = None
        if grant is not None:
            given = await make_grant(tx, principal, session, row, turn, arguments, grant)
        status = "rejected" if decision == "reject" else "approved"
        await approvals.resolve(
            tx.session,
            approval_id,
            status=status,
            decision=decision,
            decided_by=principal.subject,
            feedback=feedback,
            arguments=canonical_json(arguments),
        )
        await self._carry_out(tx, turn, row, status, decision, arguments, feedback, principal, offer=offer)
        final = await approvals.find(tx.session, session.db_id, approval_id)
        assert final is not None
        return msgspec.structs.replace(Approval.from_row(final), grant=given)

    def _check_edit(self, row: Row[Any], modified: dict[str, Any]) -> dict[str, Any]:
        try:
            verdict = gate.check_edit(self._agents[row.agent], row.tool_name, modified, self._policy)
        except InvalidArguments as error:
            raise BadRequest(f"modified_arguments: {error}", field="modified_arguments") from None
        if verdict.effect == "deny":
            raise BadRequest(f"modified_arguments: {verdict.reason}", code="denied", field="modified_arguments")
        return verdict.arguments

    def _check_again(self, row: Row[Any], arguments: dict[str, Any]) -> None:
        try:
            verdict = gate.check_edit(self._agents[row.agent], row.tool_name, arguments, self._policy)
        except InvalidArguments as error:
            raise Conflict(f"The tool takes these arguments no longer: {error}", code="denied") from None
        if verdict.effect == "deny":
            raise Conflict(f"The policy does not allow this any longer: {verdict.reason}", code="denied")

    async def _carry_out(
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
        offer: bool,
    ) -> None:
        await self._calls.tell_resolved(
            tx, turn, row, status, decision, arguments, feedback=feedback, decided_by=principal.subject
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

    async def _go_on_or_end(self, tx: Transaction, turn: Row[Any], status: str, feedback: str | None) -> None:
        if status == "approved":
            await self._runner.resume_when_answered(tx, turn)
            return
        await self._transitions.cancel(tx, turn, feedback or "Stopped by the user at a limit")
        tx.after_commit(lambda: self._runner.wake(turn.session_db_id))

    async def list_pending(self, principal: Principal, session_id: str) -> list[Approval]:
        """Return what waits for a person in a session, oldest first."""
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            return [Approval.from_row(row) for row in await approvals.list_pending(db, session.db_id)]


def _check_decision(row: Row[Any] | None, decision: str, modified: dict[str, Any] | None) -> None:
    if decision == "edit" and row is not None and row.request_type == approvals.LIMIT:
        raise BadRequest("decision: must be approve or reject, since there is nothing to edit", field="decision")
    if (decision == "edit") != (modified is not None):
        problem = "is required for edit" if decision == "edit" else "is for edit only"
        raise BadRequest(f"modified_arguments: {problem}", field="modified_arguments")
