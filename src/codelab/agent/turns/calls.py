"""What becomes of a tool call, each step inside one unit of work with its events."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from codelab.agent import gate
from codelab.agent.audit import ENDS, of_arguments
from codelab.agent.mcp.tools import is_foreign
from codelab.agent.repository import approvals, messages, turns
from codelab.agent.tools import SERVER_TOOLS
from codelab.agent.turns.server_tools import run_here
from codelab.agent.turns.transcript import result_text
from codelab.db import new_id, now
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from codelab.agent.audit import AuditTrail
    from codelab.agent.inbox import Inbox
    from codelab.agent.log import EventLog
    from codelab.agent.mcp import McpRoom
    from codelab.agent.mcp.tools import ForeignTool
    from codelab.agent.policy import Policy
    from codelab.agent.providers import ToolCall
    from codelab.agent.turns.streaming import Answer
    from codelab.db import Transaction

__all__ = ("TOOL", "UNKNOWN_OUTCOME", "CallTransitions", "unique_calls")

MAX_CALL_ID = 255
#: What an approval asks: may this run, or what shall be done about a call whose client went away before its result.
TOOL, UNKNOWN_OUTCOME = "tool", "unknown_outcome"


async def unique_calls(tx: Transaction, session_db_id: int, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Give calls whose id the session has seen a fresh one: some models count call_0, call_1 in every answer (W9)."""
    taken = await turns.taken_call_ids(tx.session, session_db_id, [call.id for call in calls]) if calls else set()
    unique: list[ToolCall] = []
    for call in calls:
        # An id is a part of a path as well.
        fits = call.id.strip(".") and "/" not in call.id and len(call.id) <= MAX_CALL_ID and call.id not in taken
        kept = call if fits else msgspec.structs.replace(call, id=f"call_{uuid4().hex}")
        taken.add(kept.id)
        unique.append(kept)
    return tuple(unique)


class CallTransitions:
    """Change tool calls and the approvals that they wait for."""

    def __init__(self, log: EventLog, inbox: Inbox, policy: Policy, mcp: McpRoom, *, approval_seconds: int) -> None:
        self._log = log
        self._inbox = inbox
        self._policy = policy
        self._mcp = mcp
        self._patience = timedelta(seconds=approval_seconds)

    @property
    def audit(self) -> AuditTrail:
        """The audit trail."""
        return self._log.audit

    async def foreign(self, tx: Transaction, session_db_id: int) -> Mapping[str, ForeignTool]:
        """Return the tools of MCP servers that a session has."""
        return await self._mcp.catalogue.of_session(tx.session, session_db_id)

    async def settle(self) -> None:
        """Wait a moment, soon after the start, until it is known which tools there are."""
        await self._mcp.catalogue.settle()

    def is_made_here(self, call: Row[Any]) -> bool:
        """Tell whether this process makes a call of an MCP tool now, or is about to learn what tool that is."""
        return call.db_id in self._mcp.queue.running or not self._mcp.catalogue.is_known(call.tool_name)

    async def admit(
        self,
        tx: Transaction,
        session: Row[Any],
        turn: Row[Any],
        answer: Answer,
        call: ToolCall,
        verdict: gate.Verdict,
        *,
        approval_id: str | None = None,
    ) -> None:
        """Give one call its first state: asked, requested, or answered here; a grant came from ``approval_id``."""
        arguments = canonical_json(verdict.arguments)
        state = "awaiting_approval" if verdict.effect == "ask" else "requested"
        await turns.add_call(
            tx.session,
            session_db_id=session.db_id,
            turn_db_id=turn.db_id,
            message_id=answer.message_id,
            call_id=call.id,
            tool_name=call.name[:MAX_CALL_ID],
            arguments=arguments,
            state=state,
        )
        row = await turns.find_call(tx.session, session.db_id, call.id)
        assert row is not None
        if verdict.effect == "deny":
            self.audit.record(
                tx,
                "call_denied",
                owner_id=session.owner_id,
                session_id=session.id,
                agent=answer.agent,
                call_id=call.id,
                tool_name=row.tool_name,
                reason=verdict.reason,
                **of_arguments(verdict.arguments),
            )
            await self.answer(tx, turn, row, "denied", error=verdict.reason)
        elif verdict.effect == "ask":
            await self.ask(tx, session, turn, answer.agent, call.id, row.tool_name, verdict.arguments, verdict.reason)
        else:
            await self.request(tx, turn, row, verdict.arguments, approval_id=approval_id)

    async def ask(
        self,
        tx: Transaction,
        session: Row[Any],
        turn: Row[Any],
        agent: str,
        call_id: str,
        tool_name: str,
        arguments: dict[str, Any],
        reason: str,
        request_type: str = TOOL,
    ) -> str:
        """Ask a person about a call that waits for one; return the public id of the question."""
        request_id = new_id()
        version = self._policy.of_session(session.policy_rules).version
        tool = (await self.foreign(tx, session.db_id)).get(tool_name)
        tool_version = None if tool is None else tool.version
        digest = gate.digest(session.id, agent, tool_name, arguments, version, tool_version)
        at = now()
        await approvals.add(
            tx.session,
            request_id=request_id,
            request_type=request_type,
            subject=tool_name,
            session_db_id=session.db_id,
            turn_db_id=turn.db_id,
            call_id=call_id,
            agent=agent,
            tool_name=tool_name,
            arguments=canonical_json(arguments),
            digest=digest,
            policy_version=version,
            tool_version=tool_version,
            reason=reason,
            owner_id=session.owner_id,
            expires_at=at + self._patience,
        )
        self._inbox.changed(tx, session.owner_id, request_id)
        data = {
            "approval_id": request_id,
            "request_type": request_type,
            "call_id": call_id,
            "turn_id": turn.id,
            "tool_name": tool_name,
            "arguments": arguments,
            "reason": reason,
            "digest": digest,
            "created_at": at,
            "expires_at": at + self._patience,
        }
        await self._log.append(tx, session.db_id, ("approval.requested", data))
        return request_id

    async def request(
        self, tx: Transaction, turn: Row[Any], call: Row[Any], arguments: dict[str, Any], *, approval_id: str | None
    ) -> None:
        """Offer a call to the clients: one of them claims it, and runs it.

        What codelab does itself is done here; a tool of an MCP server that it reaches is called after the commit.
        """
        if call.tool_name in SERVER_TOOLS:
            outcome = await run_here(self._log, tx, turn, call, arguments)
            state = "completed" if outcome.error is None else "failed"
            await self.answer(tx, turn, call, state, result=outcome.result, error=outcome.error)
            return
        runner = None
        if is_foreign(call.tool_name):
            tool = (await self.foreign(tx, turn.session_db_id)).get(call.tool_name)
            runner = None if tool is None else tool.client_id
            if runner is None:
                tx.after_commit(lambda: self._mcp.queue.put(call.db_id))
                return
        data = {
            "call_id": call.call_id,
            "turn_id": turn.id,
            "tool_name": call.tool_name,
            "arguments": arguments,
            "approval_id": approval_id,
            "attempt": call.attempt,
            "client_id": runner,
            "claim": None,
        }
        await self._log.append(tx, turn.session_db_id, ("tool.requested", data))

    async def answer(
        self,
        tx: Transaction,
        turn: Row[Any],
        call: Row[Any],
        state: str,
        *,
        result: Any = None,
        error: str | None = None,
        message_id: str | None = None,
    ) -> int:
        """Give a call its one result, for the log and for the model; return the ``seq`` of the event.

        ``message_id`` is that of the message for the model, where somebody was told it.
        """
        data = {
            "call_id": call.call_id,
            "turn_id": turn.id,
            "tool_name": call.tool_name,
            "status": state,
            "result": result,
            "error": error,
        }
        seq = await self._log.append(tx, turn.session_db_id, ("tool.completed", data), messages=1)
        if call.edited and error is None:
            arguments = msgspec.json.decode(call.arguments)
            result = {"note": "The person changed the arguments.", "arguments": arguments, "result": result}
        await messages.add(
            tx.session,
            message_id=message_id or new_id(),
            session_db_id=turn.session_db_id,
            turn_db_id=turn.db_id,
            seq=seq,
            role="tool",
            content=result_text(result, error),
            name=call.tool_name,
            tool_call_id=call.call_id,
        )
        await turns.close_call(tx.session, call.db_id, state, seq)
        if state == "cancelled" and is_foreign(call.tool_name):
            tx.after_commit(lambda: self._mcp.queue.stop(call.db_id))
        return seq

    async def withdraw(self, tx: Transaction, turn: Row[Any], approval: Row[Any]) -> None:
        """End a question that is moot: nobody decided."""
        await approvals.resolve(tx.session, approval.request_id, status="cancelled", decision=None, decided_by=None)
        await self.tell_resolved(tx, turn, approval, "cancelled", None, msgspec.json.decode(approval.arguments))

    async def tell_resolved(
        self,
        tx: Transaction,
        turn: Row[Any],
        approval: Row[Any],
        status: str,
        decision: str | None,
        arguments: dict[str, Any],
        *,
        feedback: str | None = None,
        decided_by: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Append how an approval ended."""
        self._inbox.changed(tx, approval.owner_id, approval.request_id)
        data = {
            "approval_id": approval.request_id,
            "call_id": approval.call_id,
            "turn_id": turn.id,
            "tool_name": approval.tool_name,
            "status": status,
            "decision": decision,
            "arguments": arguments,
            "feedback": feedback,
            "decided_by": decided_by,
            "client_id": client_id,
        }
        if (event := ENDS.get(status)) is not None:
            told = {name: data[name] for name in ("approval_id", "call_id", "tool_name", "decision", "feedback")}
            self.audit.record(
                tx,
                event,
                owner_id=approval.owner_id,
                session_id=approval.session_id,
                actor_id=decided_by,
                client_id=client_id,
                agent=approval.agent,
                digest=approval.digest,
                **told,
                **of_arguments(arguments),
            )
        return await self._log.append(tx, turn.session_db_id, ("approval.resolved", data))
