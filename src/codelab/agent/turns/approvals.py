"""What waits for a person, and the decisions about it. Each is one unit of work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from codelab.agent.grants import make_grant
from codelab.agent.idempotency import write_once
from codelab.agent.ownership import PUBLIC_ID, require_session
from codelab.agent.repository import approvals, inbox, turns
from codelab.agent.schemas import AdminApproval, AdminApprovals, Approval
from codelab.agent.turns.decision_checks import (
    OverdueError,
    check_again,
    check_decision,
    check_digest,
    check_edit,
    check_tool,
    decided_already,
    find_agent,
)
from codelab.agent.turns.decisions import Decisions
from codelab.agent.turns.expiry import is_overdue
from codelab.db import now
from codelab.errors import BadRequest, NotFound
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy import Row

    from codelab.agent.agents import Agents
    from codelab.agent.policy import Policy
    from codelab.agent.schemas import GrantRequest
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.expiry import Expiry
    from codelab.agent.turns.runner import Runner
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction
    from codelab.errors import Conflict
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("ApprovalService",)

_T = TypeVar("_T")
#: The feedback where a message takes the place of a decision.
INSTEAD = "The person sent a message instead of a decision"


class ApprovalService:
    """List approvals and take decisions from people."""

    def __init__(
        self,
        database: Database,
        transitions: Transitions,
        calls: CallTransitions,
        runner: Runner,
        agents: Agents,
        policy: Policy,
        expiry: Expiry,
        *,
        rejects_for_messages: bool,
    ) -> None:
        self._database = database
        self._policy = policy
        self._calls = calls
        self._decisions = Decisions(transitions, calls, runner)
        self._agents = agents
        self._expiry = expiry
        self._rejects = rejects_for_messages

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
            Conflict: it was decided already, or its time is over; how it ended is in the problem's member ``approval``.
                Or the policy or the agent has changed since it was asked, and denies it.
        """
        if decision == "reject" and grant is not None:
            raise BadRequest("grant: is not for reject", field="grant")
        await self._calls.settle()

        async def unit(tx: Transaction) -> Approval:
            return await self.take_decision(
                tx, principal, session_id, approval_id, decision, modified, feedback, grant=grant
            )

        route, values = ("approvals", session_id, approval_id), [decision, modified, feedback]
        if grant is not None:
            values.append(msgspec.to_builtins(grant))
        return await self.in_time(write_once(self._database, once, principal.subject, route, values, unit, Approval))

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

        That is for who brings its result with the decision. Raises what ``decide`` raises, and OverdueError, which
        ``in_time`` turns into the Conflict.
        """
        session = await require_session(tx.session, principal, session_id)
        known = re.fullmatch(PUBLIC_ID, approval_id)
        row = await approvals.find(tx.session, session.db_id, approval_id) if known else None
        check_decision(row, decision, modified)
        if row is None:
            raise NotFound("This session has no such approval.", code="unknown_approval")
        if row.status != "pending":
            raise decided_already(row)
        if is_overdue(row, now()):
            raise OverdueError(row)
        arguments = msgspec.json.decode(row.arguments)
        if decision != "reject":
            check_digest(row, arguments)
        policy = self._policy.of_session(session.policy_rules)
        foreign = await self._calls.foreign(tx, session.db_id)
        if decision != "reject":
            check_tool(row, foreign)
        if modified is not None:
            arguments = check_edit(find_agent(self._agents, row), row, modified, policy, foreign)
        elif decision == "approve" and row.request_type != approvals.LIMIT:
            check_again(find_agent(self._agents, row), row, arguments, policy, foreign)
        turn = await turns.find_active(tx.session, row.session_db_id)
        assert turn is not None
        given = None
        if grant is not None:
            given = await make_grant(self._calls.audit, tx, principal, session, row, turn, arguments, grant)
        status = "rejected" if decision == "reject" else "approved"
        await approvals.resolve(
            tx.session,
            approval_id,
            status=status,
            decision=decision,
            decided_by=principal.subject,
            client_id=principal.client_id,
            feedback=feedback,
            arguments=canonical_json(arguments),
        )
        await self._decisions.carry_out(tx, turn, row, status, decision, arguments, feedback, principal, offer=offer)
        final = await approvals.find(tx.session, session.db_id, approval_id)
        assert final is not None
        return msgspec.structs.replace(Approval.from_row(final), grant=given)

    async def in_time(self, work: Awaitable[_T]) -> _T:
        """Carry out a unit of work that takes a decision; one that comes too late ends its approval instead.

        Raises:
            Conflict: the time of the approval is over; nothing of the unit is kept.
        """
        try:
            return await work
        except OverdueError as overdue:
            row = overdue.row
        raise await self._end(row)

    async def list_all(self, *, status: str | None, cursor: str | None, limit: int) -> AdminApprovals:
        """List everybody's approvals, of one status where one is named, the newest first, for an administrator.

        Raises:
            BadRequest: the cursor is none of this list.
        """
        if cursor is not None and not re.fullmatch(PUBLIC_ID, cursor):
            raise BadRequest("cursor: is none of this list", field="cursor")
        async with self._database.read() as db:
            rows = await inbox.list_all(db, status=status, before=cursor, limit=limit + 1)
        more = rows[limit - 1].id if len(rows) > limit else None
        return AdminApprovals([AdminApproval.from_row(row) for row in rows[:limit]], more)

    async def reject_any(
        self, principal: Principal, approval_id: str, feedback: str | None, once: Once | None = None
    ) -> AdminApproval:
        """Reject anybody's approval as an administrator, who can do nothing else to it.

        Raises:
            NotFound: there is no such approval.
            Conflict: it was decided already, or its time is over.
        """
        known = re.fullmatch(PUBLIC_ID, approval_id)

        async def unit(tx: Transaction) -> AdminApproval:
            row = await inbox.find_any(tx.session, approval_id) if known else None
            if row is None:
                raise NotFound("There is no such approval.", code="unknown_approval")
            if row.status != "pending":
                raise decided_already(row)
            if is_overdue(row, now()):
                raise OverdueError(row)
            turn = await turns.find_active(tx.session, row.session_db_id)
            assert turn is not None
            await self._decisions.reject(tx, turn, row, principal, feedback or "Rejected by an administrator")
            final = await inbox.find_any(tx.session, approval_id)
            assert final is not None
            return AdminApproval.from_row(final)

        route, values = ("admin-reject", approval_id), [feedback]
        try:
            return await write_once(self._database, once, principal.subject, route, values, unit, AdminApproval)
        except OverdueError as overdue:
            row = overdue.row
        raise await self._end(row)

    async def reject_for_message(self, tx: Transaction, principal: Principal, session: Row[Any]) -> bool:
        """Reject what waits in a session, since its owner says something else; return whether anything did.

        Only who may decide does so: the message of another client waits.
        """
        if not self._rejects or session.turn_state != "waiting" or "approvals:decide" not in principal.scopes:
            return False
        pending = await approvals.list_pending(tx.session, session.db_id)
        for row in pending:
            turn = await turns.find_active(tx.session, session.db_id)
            if turn is not None and not is_overdue(row, now()):
                await self._decisions.reject(tx, turn, row, principal, INSTEAD)
        return bool(pending)

    async def _end(self, row: Row[Any]) -> Conflict:
        """End an approval whose time is over, and say so."""
        await self._expiry.expire(row.session_db_id, row.request_id)
        async with self._database.read() as db:
            ended = await approvals.find(db, row.session_db_id, row.request_id)
        return decided_already(ended or row)

    async def list_pending(self, principal: Principal, session_id: str) -> list[Approval]:
        """Return what waits for a person in a session, oldest first."""
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            return [Approval.from_row(row) for row in await approvals.list_pending(db, session.db_id)]
