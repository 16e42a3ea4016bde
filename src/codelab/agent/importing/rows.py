"""From one session of another system to the rows and events that it would have here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent import gate
from codelab.agent.importing.log import MODEL, SessionLog
from codelab.agent.providers import ToolCall
from codelab.agent.tools import SWITCH_MODE
from codelab.agent.turns.calls import TOOL
from codelab.agent.turns.transcript import tool_calls_json
from codelab.db import new_id
from codelab.import_records import AnswerRecord, Note, ResultRecord
from codelab.text import canonical_json, decode_lenient

if TYPE_CHECKING:
    from datetime import datetime

    from codelab.import_records import ApprovalRecord, CallRecord, StrayRecord, TurnRecord

__all__ = ("SessionRows",)

_DECISIONS = {"approved": "approve", "rejected": "reject"}
_UNDONE = "The reference system recorded no result of a call."
_UNANSWERED = "The reference system recorded no answer."


class SessionRows(SessionLog):
    """Build the rows of a session."""

    def build(self) -> None:
        """Write every turn and hand-over in the order of time."""
        for turn in self._record.turns:
            self._turn(turn)
        self.switch_until(None)

    def _turn(self, turn: TurnRecord) -> None:
        self.switch_until(turn.at)
        turn_id, message_id = new_id(), self.own(turn.message_id)
        created = {
            "message_id": message_id,
            "turn_id": turn_id,
            "role": "user",
            "content": turn.content,
            "delivery": "queue",
            "images": [],
        }
        seq = self.event("message.created", turn.at, created)
        self.message(message_id, seq, "user", turn.content, turn.at, metadata_json=turn.metadata)
        self.event("turn.started", turn.at, {"turn_id": turn_id, "message_id": message_id, "agent": self._agent})
        last: AnswerRecord | None = None
        at = turn.at
        waiting = False
        for step in turn.steps:
            self.switch_until(step.at)
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
            "unpriced_calls": 1 if steps else None,
            "created_at": turn.at,
            "started_at": turn.at,
        }
        self.turns.append(row | (_WAITING if waiting else self._end(turn_id, last, at)))

    def _end(self, turn_id: str, last: AnswerRecord | None, at: datetime) -> dict[str, Any]:
        if last is not None and not last.calls:
            completed = {"turn_id": turn_id, "message_id": self.own(last.message_id), "usage": None}
            self.event("turn.completed", at, completed)
            return {"state": "completed", "error_code": None, "error": None, "ended_at": at}
        if last is not None and any(call.result and call.result.message_id is None for call in last.calls):
            self.event("turn.cancelled", at, {"turn_id": turn_id, "reason": _UNDONE, "usage": None})
            return {"state": "cancelled", "error_code": None, "error": _UNDONE, "ended_at": at}
        failed = {"turn_id": turn_id, "code": "no_answer", "error": _UNANSWERED, "usage": None}
        self.event("turn.failed", at, failed)
        return {"state": "failed", "error_code": "no_answer", "error": _UNANSWERED, "ended_at": at}

    def _stray(self, step: StrayRecord, turn_id: str) -> None:
        """Keep a message for people: an interrupted one, which no model sees again."""
        message_id = self.own(step.message_id)
        seq = self.start_answer(message_id, turn_id, step.at, step.content)
        self.complete_answer(message_id, turn_id, step.at, step.content, "interrupted", [])
        self.message(message_id, seq, step.role, step.content, step.at, status="interrupted")

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
        message_id = self.own(answer.message_id)
        seq = self.start_answer(message_id, turn_id, answer.at, answer.content)
        told = [{"call_id": call.id, "tool_name": call.tool_name, "arguments": call.arguments} for call in answer.calls]
        self.complete_answer(message_id, turn_id, answer.at, answer.content, "completed", told)
        asked = [ToolCall(call.id, call.tool_name, canonical_json(call.arguments)) for call in answer.calls]
        self.message(
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
            pending = [self.own(call.approval.id) for call in outside if call.approval]
            data = {"turn_id": turn_id, "call_ids": [call.id for call in outside], "approval_ids": pending}
            self.event("turn.waiting", answer.at, data)
        for call in answer.calls:
            self._finish(call, answer, turn_id)
        return any(call.result is None for call in answer.calls)

    def _request(self, call: CallRecord, turn_id: str, at: datetime, approval_id: str | None) -> None:
        data = {
            "call_id": call.id,
            "turn_id": turn_id,
            "tool_name": call.tool_name,
            "arguments": call.arguments,
            "approval_id": approval_id,
            "attempt": 1,
            "client_id": None,
            "claim": None,
        }
        self.event("tool.requested", at, data)

    def _ask(self, call: CallRecord, approval: ApprovalRecord, turn_id: str, agent: str) -> None:
        approval_id = self.own(approval.id)
        arguments = canonical_json(approval.arguments)
        digest = gate.digest(self._record.id, agent, call.tool_name, approval.arguments)
        decided = approval.status in _DECISIONS
        self.approvals.append(
            {
                "id": approval_id,
                "request_id": approval_id,
                "request_type": TOOL,
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
            "request_type": TOOL,
            "call_id": call.id,
            "turn_id": turn_id,
            "tool_name": call.tool_name,
            "arguments": approval.arguments,
            "reason": approval.reason,
            "digest": digest,
            "created_at": approval.created_at,
            "expires_at": None,
        }
        self.event("approval.requested", approval.created_at, data)

    def _finish(self, call: CallRecord, answer: AnswerRecord, turn_id: str) -> None:
        """Write what was decided about a call and its result, as far as there are any."""
        approval, result = call.approval, call.result
        if approval is not None and approval.status != "pending":
            approval_id, at = self.own(approval.id), approval.decided_at or approval.created_at
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
                "client_id": None,
            }
            self.event("approval.resolved", at, resolved)
            if approval.status == "approved":
                self._request(call, turn_id, at, approval_id)
        completed_seq = None
        if result is not None:
            self.switch_until(result.at)
            completed_seq = self._complete_call(call, result, turn_id)
        state = result.status if result else "awaiting_approval"
        self.calls.append(
            {
                "turn_db_id": len(self.turns),
                "message_id": self.own(answer.message_id),
                "call_id": call.id,
                "tool_name": call.tool_name,
                "arguments": canonical_json(call.arguments),
                "edited": False,
                "attempt": 1,
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
        seq = self.event("tool.completed", result.at, data)
        message_id = self.own(result.message_id) if result.message_id else new_id()
        self.message(message_id, seq, "tool", result.text, result.at, name=call.tool_name, tool_call_id=call.id)
        return seq


_WAITING: dict[str, Any] = {"state": "waiting", "error_code": None, "error": None, "ended_at": None}


def _as_value(text: str) -> Any:
    """Read a result as the JSON that a tool gave, where it is an object or an array; else it is text."""
    try:
        value = decode_lenient(text.encode()) if text[:1] in {"{", "["} else text
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (dict, list)) else text
