"""From one session of another system to the rows and events that it would have here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent import gate
from codelab.agent.agents import ORCHESTRATOR
from codelab.agent.providers import ToolCall
from codelab.agent.tools import SWITCH_MODE
from codelab.agent.turns.transcript import tool_calls_json
from codelab.db import new_id
from codelab.takeover import AnswerRecord, Note, ResultRecord
from codelab.text import canonical_json, decode_lenient

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from codelab.agent.agents import Agent
    from codelab.takeover import ApprovalRecord, CallRecord, SessionRecord, StrayRecord, TurnRecord

__all__ = ("SessionRows", "known_agent")

#: The reference did not keep which model answered.
MODEL = "unknown"
#: Agents of the reference that have another name here.
_SAME_WORK = {"universal": "coder"}
_DECISIONS = {"approved": "approve", "rejected": "reject"}
_UNDONE = "The reference system recorded no result of a call."
_UNANSWERED = "The reference system recorded no answer."


def known_agent(name: str, agents: Mapping[str, Agent]) -> str:
    """Return the agent here that does the work of one of the other system."""
    name = _SAME_WORK.get(name, name)
    return name if name in agents else ORCHESTRATOR


class SessionRows:
    """Build the rows of a session.

    ``turn_db_id`` of messages, calls and approvals is the index in ``turns`` until the keys are known. ``taken`` are
    ids that something here has already.
    """

    def __init__(self, record: SessionRecord, agents: Mapping[str, Agent], taken: Collection[str]) -> None:
        self._record = record
        self._agents = agents
        self._taken = taken
        self._renamed: dict[str, str] = {}
        self._next_switch = 0
        first = record.switches[0].from_agent if record.switches else record.current_agent
        self._agent = known_agent(first or ORCHESTRATOR, agents)
        self.turns: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.approvals: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.repairs: list[Note] = []

    def build(self) -> None:
        """Write every turn and hand-over in the order of time."""
        for turn in self._record.turns:
            self._turn(turn)
        self._switch_until(None)

    def switches(self, context_id: str) -> list[dict[str, Any]]:
        """Return the rows of the hand-overs."""
        return [
            {
                "id": self._own(switch.id),
                "context_db_id": context_id,
                "from_agent": switch.from_agent,
                "to_agent": switch.to_agent,
                "switched_at": switch.at,
                "reason": switch.reason,
                "confidence": switch.confidence,
                "switched_by": switch.by,
            }
            for switch in self._record.switches
        ]

    def _own(self, given: str) -> str:
        if given not in self._taken:
            return given
        return self._renamed.setdefault(given, new_id())

    def _event(self, kind: str, at: datetime, data: dict[str, Any]) -> int:
        seq = len(self.events) + 1
        self.events.append({"seq": seq, "type": kind, "data": canonical_json(data), "created_at": at})
        return seq

    def _message(self, message_id: str, seq: int, role: str, content: str, at: datetime, **values: Any) -> None:
        row = dict.fromkeys(("agent", "model", "name", "tool_call_id", "tool_calls", "token_count", "metadata_json"))
        row |= {"id": message_id, "turn_db_id": len(self.turns), "seq": seq, "role": role, "status": "completed"}
        self.messages.append(row | {"content": content, "timestamp": at} | values)

    def _switch_until(self, at: datetime | None) -> None:
        switches = self._record.switches
        while self._next_switch < len(switches) and (at is None or switches[self._next_switch].at <= at):
            switch = switches[self._next_switch]
            self._next_switch += 1
            self._agent = known_agent(switch.to_agent, self._agents)
            data = {
                "from_agent": switch.from_agent,
                "to_agent": switch.to_agent,
                "reason": switch.reason,
                "confidence": switch.confidence,
                "by": switch.by,
            }
            self._event("agent.switched", switch.at, data)

    def _turn(self, turn: TurnRecord) -> None:
        self._switch_until(turn.at)
        turn_id, message_id = new_id(), self._own(turn.message_id)
        created = {"message_id": message_id, "turn_id": turn_id, "role": "user", "content": turn.content}
        seq = self._event("message.created", turn.at, created)
        self._message(message_id, seq, "user", turn.content, turn.at, metadata_json=turn.metadata)
        self._event("turn.started", turn.at, {"turn_id": turn_id, "message_id": message_id, "agent": self._agent})
        last: AnswerRecord | None = None
        at = turn.at
        waiting = False
        for step in turn.steps:
            self._switch_until(step.at)
            at = max(at, step.at)
            if isinstance(step, AnswerRecord):
                last = self._admit(step)
                waiting = self._answer(last, turn_id)
                at = max([at, *(call.result.at for call in last.calls if call.result)])
            else:
                self._stray(step, turn_id)
        steps = sum(isinstance(step, AnswerRecord) for step in turn.steps)
        row: dict[str, Any] = {
            "id": turn_id,
            "message_id": message_id,
            # The limit is on model calls of ours, and a turn that waits has had none.
            "steps": min(steps, 1) if waiting else steps,
            "input_tokens": 0,
            "output_tokens": 0,
            "created_at": turn.at,
            "started_at": turn.at,
        }
        self.turns.append(row | (_WAITING if waiting else self._end(turn_id, last, at)))

    def _end(self, turn_id: str, last: AnswerRecord | None, at: datetime) -> dict[str, Any]:
        if last is not None and not last.calls:
            usage = {"input_tokens": 0, "output_tokens": 0}
            self._event(
                "turn.completed", at, {"turn_id": turn_id, "message_id": self._own(last.message_id), "usage": usage}
            )
            return {"state": "completed", "error_code": None, "error": None, "ended_at": at}
        if last is not None and any(call.result and call.result.message_id is None for call in last.calls):
            self._event("turn.cancelled", at, {"turn_id": turn_id, "reason": _UNDONE})
            return {"state": "cancelled", "error_code": None, "error": _UNDONE, "ended_at": at}
        self._event("turn.failed", at, {"turn_id": turn_id, "code": "no_answer", "error": _UNANSWERED})
        return {"state": "failed", "error_code": "no_answer", "error": _UNANSWERED, "ended_at": at}

    def _stray(self, step: StrayRecord, turn_id: str) -> None:
        """Keep a message for people: an interrupted one, which no model sees again."""
        message_id = self._own(step.message_id)
        seq = self._start_answer(message_id, turn_id, step.at, step.content)
        self._complete_answer(message_id, turn_id, step.at, step.content, "interrupted", [])
        self._message(message_id, seq, step.role, step.content, step.at, status="interrupted")

    def _admit(self, answer: AnswerRecord) -> AnswerRecord:
        """Let calls that wait for a person pass the gate; those that it denies are closed."""
        return msgspec.structs.replace(answer, calls=tuple(self._admit_call(call, answer) for call in answer.calls))

    def _admit_call(self, call: CallRecord, answer: AnswerRecord) -> CallRecord:
        approval = call.approval
        if call.result is not None or approval is None:
            return call
        verdict = gate.check_call(self._agents[self._agent], call.tool_name, canonical_json(call.arguments))
        problem = verdict.reason if verdict.effect == "deny" else None
        if problem is None and canonical_json(approval.arguments) != canonical_json(call.arguments):
            problem = "The approval asks for something else than the call."
        if problem is None:
            return call
        note = f"its pending approval cannot be decided here ({problem}); it is cancelled now"
        where = f"{self._record.reference_id[:100]} {approval.id}"
        self.repairs.append(Note(kind="pending_approvals", where=where, what=note))
        return msgspec.structs.replace(
            call,
            approval=msgspec.structs.replace(approval, status="cancelled", decided_at=answer.at),
            result=ResultRecord(message_id=None, text=f"Error: {problem}", status="cancelled", at=answer.at),
        )

    def _answer(self, answer: AnswerRecord, turn_id: str) -> bool:
        """Write an answer with its calls; return whether the turn waits for a person."""
        message_id = self._own(answer.message_id)
        seq = self._start_answer(message_id, turn_id, answer.at, answer.content)
        told = [{"call_id": call.id, "tool_name": call.tool_name, "arguments": call.arguments} for call in answer.calls]
        self._complete_answer(message_id, turn_id, answer.at, answer.content, "completed", told)
        asked = [ToolCall(call.id, call.tool_name, canonical_json(call.arguments)) for call in answer.calls]
        self._message(
            message_id,
            seq,
            "assistant",
            answer.content,
            answer.at,
            agent=self._agent,
            model=MODEL,
            tool_calls=tool_calls_json(asked),
            metadata_json=answer.metadata,
        )
        agent = self._agent
        for call in answer.calls:
            if call.approval is not None:
                self._ask(call, call.approval, turn_id, agent)
            elif call.tool_name != SWITCH_MODE:
                self._request(call, turn_id, answer.at, None)
        outside = [call for call in answer.calls if call.tool_name != SWITCH_MODE or call.approval]
        if outside:
            pending = [self._own(call.approval.id) for call in outside if call.approval]
            data = {"turn_id": turn_id, "call_ids": [call.id for call in outside], "approval_ids": pending}
            self._event("turn.waiting", answer.at, data)
        for call in answer.calls:
            self._finish(call, answer, turn_id)
        return any(call.result is None for call in answer.calls)

    def _start_answer(self, message_id: str, turn_id: str, at: datetime, content: str) -> int:
        data = {"message_id": message_id, "turn_id": turn_id, "agent": self._agent, "model": MODEL}
        seq = self._event("message.started", at, data)
        if content:
            self._event("message.delta", at, {"message_id": message_id, "offset": 0, "text": content})
        return seq

    def _complete_answer(
        self, message_id: str, turn_id: str, at: datetime, content: str, status: str, calls: list[dict[str, Any]]
    ) -> None:
        data = {
            "message_id": message_id,
            "turn_id": turn_id,
            "agent": self._agent,
            "model": MODEL,
            "content": content,
            "status": status,
            "tool_calls": calls,
            "usage": None,
        }
        self._event("message.completed", at, data)

    def _request(self, call: CallRecord, turn_id: str, at: datetime, approval_id: str | None) -> None:
        data = {
            "call_id": call.id,
            "turn_id": turn_id,
            "tool_name": call.tool_name,
            "arguments": call.arguments,
            "approval_id": approval_id,
        }
        self._event("tool.requested", at, data)

    def _ask(self, call: CallRecord, approval: ApprovalRecord, turn_id: str, agent: str) -> None:
        approval_id = self._own(approval.id)
        arguments = canonical_json(approval.arguments)
        digest = gate.digest(self._record.id, agent, call.tool_name, approval.arguments)
        decided = approval.status in _DECISIONS
        self.approvals.append(
            {
                "id": approval_id,
                "request_id": approval_id,
                "request_type": "tool",
                "subject": call.tool_name,
                "turn_db_id": len(self.turns),
                "call_id": call.id,
                "agent": agent,
                "tool_name": call.tool_name,
                "arguments": arguments,
                "digest": digest,
                "reason": approval.reason,
                "created_at": approval.created_at,
                "status": approval.status,
                "decision": _DECISIONS.get(approval.status),
                "decision_at": approval.decided_at,
                "decision_reason": approval.feedback,
                "decided_by": None,
                "decided_arguments": arguments if decided else None,
            }
        )
        data = {
            "approval_id": approval_id,
            "call_id": call.id,
            "turn_id": turn_id,
            "tool_name": call.tool_name,
            "arguments": approval.arguments,
            "reason": approval.reason,
            "digest": digest,
            "created_at": approval.created_at,
        }
        self._event("approval.requested", approval.created_at, data)

    def _finish(self, call: CallRecord, answer: AnswerRecord, turn_id: str) -> None:
        """Write what was decided about a call and its result, as far as there are any."""
        approval, result = call.approval, call.result
        if approval is not None and approval.status != "pending":
            approval_id, at = self._own(approval.id), approval.decided_at or approval.created_at
            resolved = {
                "approval_id": approval_id,
                "call_id": call.id,
                "turn_id": turn_id,
                "tool_name": call.tool_name,
                "status": approval.status,
                "decision": _DECISIONS.get(approval.status),
                "arguments": approval.arguments,
                "feedback": approval.feedback,
                "decided_by": None,
            }
            self._event("approval.resolved", at, resolved)
            if approval.status == "approved":
                self._request(call, turn_id, at, approval_id)
        completed_seq = None
        if result is not None:
            self._switch_until(result.at)
            completed_seq = self._complete_call(call, result, turn_id)
        state = result.status if result else "awaiting_approval"
        self.calls.append(
            {
                "turn_db_id": len(self.turns),
                "message_id": self._own(answer.message_id),
                "call_id": call.id,
                "tool_name": call.tool_name,
                "arguments": canonical_json(call.arguments),
                "edited": False,
                "state": state,
                "completed_seq": completed_seq,
                "created_at": answer.at,
                "completed_at": result.at if result else None,
            }
        )

    def _complete_call(self, call: CallRecord, result: ResultRecord, turn_id: str) -> int:
        failed = result.text.removeprefix("Error: ") if result.text.startswith("Error: ") else None
        data = {
            "call_id": call.id,
            "turn_id": turn_id,
            "tool_name": call.tool_name,
            "status": result.status,
            "result": None if failed is not None else _as_value(result.text),
            "error": failed,
        }
        seq = self._event("tool.completed", result.at, data)
        message_id = self._own(result.message_id) if result.message_id else new_id()
        self._message(message_id, seq, "tool", result.text, result.at, name=call.tool_name, tool_call_id=call.id)
        return seq


_WAITING: dict[str, Any] = {"state": "waiting", "error_code": None, "error": None, "ended_at": None}


def _as_value(text: str) -> Any:
    """Read a result as the JSON that a tool gave, where it is an object or an array; else it is text."""
    try:
        value = decode_lenient(text.encode()) if text[:1] in {"{", "["} else text
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (dict, list)) else text
