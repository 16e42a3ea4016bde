"""From a message of a reference client to the services that carry it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.tools import is_foreign
from codelab.agent.ownership import require_session
from codelab.agent.reference.frames import HitlDecision, Message, SwitchAgent, UserMessage
from codelab.agent.reference.rendering import Renderer, switch_chunk
from codelab.agent.repository import approvals as approval_rows
from codelab.agent.repository import turns as turn_rows
from codelab.agent.schemas import NewSession, ToolResult
from codelab.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from codelab.agent.sessions import SessionService
    from codelab.agent.turns import ApprovalService, TurnService
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("Outcome", "ReferenceFace")

READ, WRITE, DECIDE = "api:read", "api:write", "approvals:decide"
#: How an error of a tool begins that is a person's no; the reference's clients know no other way to say it.
REJECTED = "User rejected"


class Outcome(msgspec.Struct):
    """What a message led to: chunks for its sender alone, and the turn that goes on because of it, if one does."""

    chunks: Sequence[str] = ()
    turn_id: str | None = None


class ReferenceFace:
    """Carry out what the reference's clients ask for."""

    def __init__(
        self, database: Database, sessions: SessionService, turns: TurnService, approvals: ApprovalService
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._turns = turns
        self._approvals = approvals

    async def open(self, principal: Principal, session_id: str, agent: str | None = None) -> int:
        """Return the internal key of a session; one that the caller does not have is made, with ``agent``.

        Raises:
            BadRequest: it cannot be the id of a session.
            Forbidden: it would have to be made, and the caller may not write.
        """
        try:
            return await self._sessions.key(principal, session_id)
        except NotFound:
            principal.require(WRITE)
        try:
            new = msgspec.convert({"session_id": session_id, "agent": agent}, NewSession)
        except msgspec.ValidationError:
            raise BadRequest(f"session_id: {session_id[:100]!r} cannot be the id of a session") from None
        try:
            await self._sessions.create(principal, new)
        except Conflict as error:
            if error.code != "session_exists":  # another client was first
                raise
        return await self._sessions.key(principal, session_id)

    async def carry_out(self, message: Message, principal: Principal, session_id: str) -> Outcome:
        """Carry out a message; what it returns is committed.

        Raises:
            CodelabError: what the services raise.
        """
        if isinstance(message, HitlDecision):
            principal.require(DECIDE)
            return await self._decide(message, principal, session_id)
        principal.require(WRITE)
        if isinstance(message, ToolResult):
            return await self._take_result(message, principal, session_id)
        if isinstance(message, SwitchAgent):
            return await self._switch(message, principal, session_id)
        return await self._say(message, principal, session_id)

    async def open_calls(self, session_db_id: int, renderer: Renderer) -> list[str]:
        """Render what a session waits for, for a client that has just come."""
        async with self._database.read() as db:
            turn = await turn_rows.find_active(db, session_db_id)
            calls = await turn_rows.list_open_calls(db, turn.db_id) if turn is not None else []
            pending = await approval_rows.list_pending(db, session_db_id)
        chunks: list[str] = []
        for row in pending:
            arguments = msgspec.json.decode(row.arguments)
            chunks += renderer.ask(row.request_id, row.call_id, row.tool_name, arguments)
        for call in calls:
            if call.state == "requested" and call.claimed_by is None and not is_foreign(call.tool_name):
                arguments = msgspec.json.decode(call.arguments)
                chunks += renderer.hand_out(call.call_id, call.tool_name, arguments, call.attempt)
        return chunks

    async def _say(self, message: UserMessage, principal: Principal, session_id: str) -> Outcome:
        if message.agent_type is not None:
            await self._switch(SwitchAgent(agent_type=message.agent_type), principal, session_id)
        accepted = await self._turns.post_message(principal, session_id, message.content or "")
        return Outcome(turn_id=accepted.turn_id)

    async def _switch(self, message: SwitchAgent, principal: Principal, session_id: str) -> Outcome:
        agent, reason = message.agent_type or "", message.reason or "User requested agent switch"
        try:
            await self._turns.switch(principal, session_id, agent, reason)
        except Conflict as error:
            if error.code != "same_agent":
                raise
            facts = {"from_agent": agent, "to_agent": agent, "reason": reason, "confidence": "high"}
            return Outcome([switch_chunk(facts, is_final=True)])
        return Outcome()

    async def _decide(self, message: HitlDecision, principal: Principal, session_id: str) -> Outcome:
        modified = message.modified_arguments if message.decision == "edit" else None
        decision = "approve" if message.decision == "edit" and modified is None else message.decision

        async def unit(tx: Transaction) -> str | None:
            approval_id = await _find_pending(tx, principal, session_id, message.call_id or "")
            if approval_id is None:
                raise NotFound(f"No pending approval found for request_id={message.call_id}", code="unknown_approval")
            await self._approvals.take_decision(
                tx, principal, session_id, approval_id, decision or "", modified, message.feedback
            )
            return await _running(tx, principal, session_id)

        return Outcome(turn_id=await self._approvals.in_time(self._database.write(unit)))

    async def _take_result(self, message: ToolResult, principal: Principal, session_id: str) -> Outcome:
        """Take a result; where a person was asked, it is their decision and the result in one."""
        call_id, error = message.call_id, message.error
        self._turns.check_result_size(message.result, error)

        async def unit(tx: Transaction) -> str | None:
            approval_id = await _find_pending(tx, principal, session_id, call_id)
            if approval_id is not None:
                principal.require(DECIDE)
                is_limit = await _is_limit(tx, principal, session_id, approval_id)
                rejected = error is not None and (is_limit or error.startswith(REJECTED))
                decision = "reject" if rejected else "approve"
                feedback = _feedback(error) if error is not None and rejected else None
                await self._approvals.take_decision(
                    tx, principal, session_id, approval_id, decision, None, feedback, offer=False
                )
                if rejected or is_limit:
                    return await _running(tx, principal, session_id)
            await self._turns.record_result(tx, principal, session_id, call_id, message.result, error)
            return await _running(tx, principal, session_id)

        return Outcome(turn_id=await self._approvals.in_time(self._database.write(unit)))


def _feedback(error: str) -> str | None:
    """Read what a person said beside their no: what follows ``User rejected:``."""
    return (error.removeprefix(REJECTED).lstrip(":").strip() if error.startswith(REJECTED) else error) or None


async def _find_pending(tx: Transaction, principal: Principal, session_id: str, call_id: str) -> str | None:
    """Return the public id of the question about a call of this session, None where nobody is asked."""
    session = await require_session(tx.session, principal, session_id)
    rows = await approval_rows.list_pending(tx.session, session.db_id)
    return next((str(row.request_id) for row in rows if call_id in {row.call_id, row.request_id}), None)


async def _is_limit(tx: Transaction, principal: Principal, session_id: str, approval_id: str) -> bool:
    session = await require_session(tx.session, principal, session_id)
    row: Any = await approval_rows.find(tx.session, session.db_id, approval_id)
    return bool(row.request_type == approval_rows.LIMIT)


async def _running(tx: Transaction, principal: Principal, session_id: str) -> str | None:
    """Return the turn of a session that goes on by itself now."""
    session = await require_session(tx.session, principal, session_id)
    return session.turn_id if session.turn_state == "running" else None
