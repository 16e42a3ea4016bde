"""The only ways in which a turn changes, each inside one unit of work, each with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from codelab.agent import gate
from codelab.agent.repository import approvals, events, messages, sessions, turns
from codelab.agent.tools import SWITCH_MODE
from codelab.agent.turns.transcript import result_text, tool_calls_json
from codelab.db import new_id, now
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.providers import ToolCall, Usage
    from codelab.db import Transaction

__all__ = ("Answer", "Transitions")

MAX_CALL_ID = 255


class Answer(msgspec.Struct, frozen=True):
    """What a model said in one call, complete."""

    message_id: str
    model: str
    text: str
    calls: tuple[ToolCall, ...]
    usage: Usage | None


class Transitions:
    """Change turns; every method is called inside a transaction and appends its own events."""

    def __init__(self, log: EventLog, agents: Mapping[str, Agent], instance: str) -> None:
        self._log = log
        self._agents = agents
        self._instance = instance

    async def start(self, tx: Transaction, session: Row[Any], turn: Row[Any]) -> None:
        """Make a queued turn the running one."""
        await turns.start(tx.session, turn.db_id, self._instance)
        data = {"turn_id": turn.id, "message_id": turn.message_id, "agent": session.current_agent}
        await self._log.append(tx, session.db_id, ("turn.started", data))

    async def switch(
        self, tx: Transaction, session: Row[Any], *, to_agent: str, reason: str, confidence: str | None, by: str
    ) -> None:
        """Hand the session to another agent."""
        await sessions.add_switch(
            tx.session, session, to_agent=to_agent, reason=reason, confidence=confidence, by=by
        )
        data = {
            "from_agent": session.current_agent,
            "to_agent": to_agent,
            "reason": reason,
            "confidence": confidence,
            "by": by,
        }
        await self._log.append(tx, session.db_id, ("agent.switched", data))

    async def say(
        self, tx: Transaction, turn: Row[Any], *, agent: str, model: str, message_id: str, offset: int, text: str
    ) -> None:
        """Append more of an answer; at offset 0 the answer begins."""
        delta = ("message.delta", {"message_id": message_id, "offset": offset, "text": text})
        if offset:
            await self._log.append(tx, turn.session_db_id, delta)
            return
        last = await self._log.append(tx, turn.session_db_id, self._started(turn, agent, model, message_id), delta)
        await self._add_answer(tx, turn, last - 1, agent, model, message_id)

    async def complete_answer(self, tx: Transaction, session: Row[Any], turn: Row[Any], answer: Answer) -> bool:
        """Take a model's complete answer; return whether the turn goes on at once (with another model call).

        Every call passes the gate. Those that are denied, and hand-overs, are answered here; the others wait for the client or
        for a person. Without calls the turn is completed.
        """
        calls = await self._unique_calls(tx, session.db_id, answer.calls)
        agent = session.current_agent
        streaming = await messages.find_streaming(tx.session, session.db_id, turn.db_id)
        if streaming is None:
            last = await self._log.append(
                tx, session.db_id, self._started(turn, agent, answer.model, answer.message_id)
            )
            await self._add_answer(tx, turn, last, agent, answer.model, answer.message_id)
        usage = msgspec.to_builtins(answer.usage) if answer.usage else None
        verdicts = [gate.check_call(self._agents[agent], call.name, call.arguments) for call in calls]
        completed = {
            "message_id": answer.message_id,
            "turn_id": turn.id,
            "agent": agent,
            "model": answer.model,
            "content": answer.text,
            "status": "completed",
            "tool_calls": [
                {"call_id": call.id, "tool_name": call.name, "arguments": verdict.arguments}
                for call, verdict in zip(calls, verdicts, strict=True)
            ],
            "usage": usage,
        }
        await self._log.append(tx, session.db_id, ("message.completed", completed), messages=1)
        await messages.complete(
            tx.session,
            answer.message_id,
            status="completed",
            content=answer.text,
            tool_calls=tool_calls_json(calls),
            token_count=answer.usage.output_tokens if answer.usage else None,
        )
        totals: dict[str, Any] = {"steps": turn.steps + 1}
        if answer.usage:
            totals["input_tokens"] = turn.input_tokens + answer.usage.input_tokens
            totals["output_tokens"] = turn.output_tokens + answer.usage.output_tokens
        await turns.set_state(tx.session, turn.db_id, "running", **totals)
        if not calls:
            totals_usage = {key: totals.get(key, getattr(turn, key)) for key in ("input_tokens", "output_tokens")}
            done = {"turn_id": turn.id, "message_id": answer.message_id, "usage": totals_usage}
            await turns.end(tx.session, turn.db_id, "completed")
            await self._log.append(tx, session.db_id, ("turn.completed", done))
            return False
        for call, verdict in zip(calls, verdicts, strict=True):
            await self._admit(tx, session, turn, answer.message_id, call, verdict)
        return await self._wait_or_go_on(tx, turn)

    async def _admit(
        self,
        tx: Transaction,
        session: Row[Any],
        turn: Row[Any],
        message_id: str,
        call: ToolCall,
        verdict: gate.Verdict,
    ) -> None:
        """Give one call its first state: asked, requested, or answered here."""
        arguments = canonical_json(verdict.arguments)
        state = "awaiting_approval" if verdict.effect == "ask" else "requested"
        await turns.add_call(
            tx.session,
            session_db_id=session.db_id,
            turn_db_id=turn.db_id,
            message_id=message_id,
            call_id=call.id,
            tool_name=call.name[:MAX_CALL_ID],
            arguments=arguments,
            state=state,
        )
        row = await turns.find_call(tx.session, session.db_id, call.id)
        assert row is not None
        if verdict.effect == "deny":
            await self.answer_call(tx, turn, row, "denied", error=verdict.reason)
        elif call.name == SWITCH_MODE:
            await self._hand_over(tx, turn, row, verdict.arguments)
        elif verdict.effect == "ask":
            await self._ask(tx, session, turn, row, verdict)
        else:
            await self.request(tx, turn, row, verdict.arguments, approval_id=None)

    async def _hand_over(self, tx: Transaction, turn: Row[Any], call: Row[Any], arguments: dict[str, Any]) -> None:
        session = await sessions.find_by_key(tx.session, turn.session_db_id)
        assert session is not None
        mode = arguments["mode"]
        if mode == session.current_agent:
            await self.answer_call(tx, turn, call, "failed", error=f"You are the agent {mode} already.")
            return
        reason = arguments.get("reason") or "Task requires different agent capabilities"
        await self.switch(tx, session, to_agent=mode, reason=reason, confidence="medium", by="agent")
        await self.answer_call(tx, turn, call, "completed", result=f"Switched to {mode} agent")

    async def _ask(
        self, tx: Transaction, session: Row[Any], turn: Row[Any], call: Row[Any], verdict: gate.Verdict
    ) -> None:
        request_id = new_id()
        digest = gate.digest(session.id, session.current_agent, call.tool_name, verdict.arguments)
        await approvals.add(
            tx.session,
            request_id=request_id,
            subject=call.tool_name,
            session_db_id=session.db_id,
            turn_db_id=turn.db_id,
            call_id=call.call_id,
            agent=session.current_agent,
            tool_name=call.tool_name,
            arguments=call.arguments,
            digest=digest,
            reason=verdict.reason,
        )
        data = {
            "approval_id": request_id,
            "call_id": call.call_id,
            "turn_id": turn.id,
            "tool_name": call.tool_name,
            "arguments": verdict.arguments,
            "reason": verdict.reason,
            "digest": digest,
            "created_at": now(),
        }
        await self._log.append(tx, session.db_id, ("approval.requested", data))

    async def request(
        self, tx: Transaction, turn: Row[Any], call: Row[Any], arguments: dict[str, Any], *, approval_id: str | None
    ) -> None:
        """Ask the client to run a call."""
        data = {
            "call_id": call.call_id,
            "turn_id": turn.id,
            "tool_name": call.tool_name,
            "arguments": arguments,
            "approval_id": approval_id,
        }
        await self._log.append(tx, turn.session_db_id, ("tool.requested", data))

    async def answer_call(
        self,
        tx: Transaction,
        turn: Row[Any],
        call: Row[Any],
        state: str,
        *,
        result: Any = None,
        error: str | None = None,
    ) -> int:
        """Give a call its one result, for the log and for the model; return the ``seq`` of the event."""
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
            message_id=new_id(),
            session_db_id=turn.session_db_id,
            turn_db_id=turn.db_id,
            seq=seq,
            role="tool",
            content=result_text(result, error),
            name=call.tool_name,
            tool_call_id=call.call_id,
        )
        await turns.close_call(tx.session, call.db_id, state, seq)
        return seq

    async def _wait_or_go_on(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Let a turn wait when calls are open; return whether it goes on."""
        open_calls = await turns.list_open_calls(tx.session, turn.db_id)
        if not open_calls:
            return True
        pending = await approvals.list_pending(tx.session, turn.session_db_id)
        await turns.set_state(tx.session, turn.db_id, "waiting")
        data = {
            "turn_id": turn.id,
            "call_ids": [call.call_id for call in open_calls],
            "approval_ids": [row.request_id for row in pending],
        }
        await self._log.append(tx, turn.session_db_id, ("turn.waiting", data))
        return False

    async def resume_when_answered(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Set a waiting turn running when its last open call was answered; return whether it was."""
        if await turns.list_open_calls(tx.session, turn.db_id):
            return False
        await turns.set_state(tx.session, turn.db_id, "running")
        return True

    async def interrupt_answer(self, tx: Transaction, turn: Row[Any]) -> None:
        """End an answer that was cut off: what was said stays, marked ``interrupted``, and no model sees it again."""
        row = await messages.find_streaming(tx.session, turn.session_db_id, turn.db_id)
        if row is None:
            return
        said = await events.text_said(tx.session, turn.session_db_id, row.id, row.seq)
        await messages.complete(tx.session, row.id, status="interrupted", content=said)
        data = {
            "message_id": row.id,
            "turn_id": turn.id,
            "agent": row.agent,
            "model": row.model,
            "content": said,
            "status": "interrupted",
            "tool_calls": [],
            "usage": None,
        }
        await self._log.append(tx, turn.session_db_id, ("message.completed", data), messages=1)

    async def fail(self, tx: Transaction, turn: Row[Any], code: str, error: str) -> None:
        """End a turn that cannot go on; the session stays usable."""
        await self._close(tx, turn, f"The turn failed: {error}")
        await turns.end(tx.session, turn.db_id, "failed", code=code, error=error)
        data = {"turn_id": turn.id, "code": code, "error": error}
        await self._log.append(tx, turn.session_db_id, ("turn.failed", data))

    async def cancel(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """End a turn that a person stopped: open calls are answered as cancelled, what was said stays."""
        await self._close(tx, turn, reason)
        await turns.end(tx.session, turn.db_id, "cancelled", error=reason)
        await self._log.append(
            tx, turn.session_db_id, ("turn.cancelled", {"turn_id": turn.id, "reason": reason})
        )

    async def _close(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """Leave nothing open: no answer that streams, no approval that waits, no call without a result."""
        await self.interrupt_answer(tx, turn)
        pending = {row.call_id: row for row in await approvals.list_pending(tx.session, turn.session_db_id)}
        for call in await turns.list_open_calls(tx.session, turn.db_id):
            if (row := pending.get(call.call_id)) is not None:
                await approvals.resolve(tx.session, row.request_id, status="cancelled", decision=None, decided_by=None)
                await self.tell_resolved(tx, turn, row, "cancelled", None, msgspec.json.decode(row.arguments))
            await self.answer_call(tx, turn, call, "cancelled", error=reason)

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
    ) -> int:
        """Append how an approval ended."""
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
        }
        return await self._log.append(tx, turn.session_db_id, ("approval.resolved", data))

    @staticmethod
    def _started(turn: Row[Any], agent: str, model: str, message_id: str) -> tuple[str, dict[str, Any]]:
        data = {"message_id": message_id, "turn_id": turn.id, "agent": agent, "model": model}
        return ("message.started", data)

    @staticmethod
    async def _add_answer(
        tx: Transaction, turn: Row[Any], seq: int, agent: str, model: str, message_id: str
    ) -> None:
        await messages.add(
            tx.session,
            message_id=message_id,
            session_db_id=turn.session_db_id,
            turn_db_id=turn.db_id,
            seq=seq,
            role="assistant",
            status="streaming",
            agent=agent,
            model=model[:255],
        )

    @staticmethod
    async def _unique_calls(tx: Transaction, session_db_id: int, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """Give calls whose id the session has seen a fresh one: some models count call_0, call_1 in every answer (W9)."""
        taken = await turns.taken_call_ids(tx.session, session_db_id, [call.id for call in calls]) if calls else set()
        unique: list[ToolCall] = []
        for call in calls:
            fits = call.id and len(call.id) <= MAX_CALL_ID and call.id not in taken
            kept = call if fits else msgspec.structs.replace(call, id=f"call_{uuid4().hex}")
            taken.add(kept.id)
            unique.append(kept)
        return tuple(unique)
