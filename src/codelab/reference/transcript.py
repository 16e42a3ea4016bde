"""From the reference's messages of one session to turns in which each call has exactly one result.

The reference accepts messages during an open call, results of unknown calls, second results and reused call ids, and it
leaves calls without a result. What models would refuse is mended here, and each repair is noted. No text is lost: what
no model may see again is kept as a stray message.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from codelab.import_records import (
    AnswerRecord,
    ApprovalRecord,
    CallRecord,
    Note,
    ResultRecord,
    StrayRecord,
    TurnRecord,
    derived_id,
)
from codelab.reference.values import as_id, as_json, as_text

if TYPE_CHECKING:
    from codelab.reference.source import Row

__all__ = ("NO_RESULT", "Transcript")

NO_RESULT = "Error: The reference system recorded no result of this call."
_REJECTED = "Error: User rejected"
_MAX_CALL_ID = 255


class _Call(msgspec.Struct):
    """A call while its result is looked for."""

    id: str
    original_id: str
    name: str
    arguments: dict[str, Any]
    at: datetime
    message: str
    result: ResultRecord | None = None
    approval: ApprovalRecord | None = None


class _Answer(msgspec.Struct):
    message_id: str
    content: str
    at: datetime
    calls: list[_Call]
    metadata: dict[str, Any] | None


class _Turn(msgspec.Struct):
    message_id: str
    content: str
    at: datetime
    steps: list[_Answer | StrayRecord]
    metadata: dict[str, Any] | None


class Transcript:
    """Build the turns of one session; feed it the messages in order, then the approvals, then ask for ``turns``."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._turns: list[_Turn] = []
        self._calls: list[_Call] = []
        self._call_ids: set[str] = set()
        self._message_ids: set[str] = set()
        self.repairs: list[Note] = []

    def add(self, row: Row, at: datetime, position: int) -> None:
        """Add the next message."""
        given = as_id(row["id"])
        message_id = given if given and given not in self._message_ids else None
        where = str(given or f"message {position + 1}")
        if message_id is None:
            message_id = derived_id("message", self._session_id, str(position))
            self._mend(where, "its id cannot be kept; it got a new one")
        self._message_ids.add(message_id)
        content = as_text(row["content"])
        if content is not None and content != row["content"]:
            self._mend(where, "characters that cannot be stored were replaced by U+FFFD")
        role = as_text(row["role"])
        metadata = as_json(row.get("metadata_json"))
        metadata = metadata if isinstance(metadata, dict) else None
        if role == "user":
            if not (content or "").strip():
                self._mend(where, "a user message without text; it says (empty) now")
                content = "(empty)"
            if self._open_calls():
                self._mend(where, "a user message during an open call; it follows the call's result now")
            self._turns.append(_Turn(message_id, content or "", at, [], metadata))
        elif role == "assistant":
            calls = self._read_calls(row, where, at)
            if content is None and not calls:
                self._mend(where, "an answer without text (NULL); it is empty now")
            self._turn(at).steps.append(_Answer(message_id, content or "", at, calls, metadata))
        elif role == "tool":
            self._take_result(as_text(row["tool_call_id"]), message_id, content, at, where)
        else:
            self._keep_aside(message_id, "system", content, at)
            self._mend(where, f"a message of the role {(role or 'NULL')[:40]}; kept for people, no model sees it")

    def attach(self, call_id: str, approval: ApprovalRecord) -> bool:
        """Attach an approval to the first call of that id; False when there is none."""
        for call in self._calls:
            if call.original_id == call_id and call.approval is None:
                call.approval = approval
                return True
        return False

    def turns(self, *, may_wait: bool) -> tuple[TurnRecord, ...]:
        """Close every call but those of the last answer that wait for a person, and return the turns."""
        last = self._last_answer()
        for call in self._calls:
            waits = call.approval is not None and call.approval.status == "pending"
            if call.result is None and not (waits and may_wait and last is not None and call in last.calls):
                call.result = ResultRecord(message_id=None, text=NO_RESULT, status="cancelled", at=call.at)
                self._mend(call.message, f"the call {call.id} had no result; it got one that says so")
            if call.result is not None and call.approval is not None:
                self._settle(call, call.approval)
        return tuple(
            TurnRecord(
                message_id=turn.message_id,
                content=turn.content,
                at=turn.at,
                steps=tuple(_freeze(step) if isinstance(step, _Answer) else step for step in turn.steps),
                metadata=turn.metadata,
            )
            for turn in self._turns
        )

    def _mend(self, where: str, what: str) -> None:
        self.repairs.append(Note(kind="messages", where=f"{self._session_id} {where}", what=what))

    def _turn(self, at: datetime) -> _Turn:
        """Return the last turn; a session may begin with something else than a user's message."""
        if not self._turns:
            message_id = derived_id("opening", self._session_id)
            self._turns.append(_Turn(message_id, "(The conversation begins without a message.)", at, [], None))
            self._mend("beginning", "no user message before the first answer; one that says so was put there")
        return self._turns[-1]

    def _open_calls(self) -> list[_Call]:
        return [call for call in self._calls if call.result is None]

    def _last_answer(self) -> _Answer | None:
        """Return the answer after which nothing else came: only its calls can still wait."""
        steps = [step for step in self._turns[-1].steps if isinstance(step, _Answer)] if self._turns else []
        return steps[-1] if steps else None

    def _read_calls(self, row: Row, where: str, at: datetime) -> list[_Call]:
        stored = as_text(row["tool_calls"])
        if not stored:
            return []
        listed = as_json(stored)
        if not isinstance(listed, list):
            self._mend(where, "its tool calls are no JSON list; they were dropped")
            return []
        calls = []
        for number, entry in enumerate(listed):
            function = entry.get("function") if isinstance(entry, dict) else None
            name = function.get("name") if isinstance(function, dict) else None
            if not isinstance(function, dict) or not isinstance(name, str) or not name:
                self._mend(where, f"its tool call {number + 1} names no tool; it was dropped")
                continue
            original = str(entry.get("id") or "")
            call_id = self._call_id(original, where, number)
            arguments = self._read_arguments(function.get("arguments"), where, call_id)
            call = _Call(call_id, original, name[:255], arguments, at, where)
            self._calls.append(call)
            calls.append(call)
        return calls

    def _call_id(self, original: str, where: str, number: int) -> str:
        call_id = original
        if not original or len(original) > _MAX_CALL_ID or original in self._call_ids:
            call_id = "call_" + derived_id("call", self._session_id, where, str(number)).replace("-", "")
            self._mend(where, f"the call id {original[:60]!r} was used before or cannot be kept; it is {call_id} now")
        self._call_ids.add(call_id)
        return call_id

    def _read_arguments(self, stored: Any, where: str, call_id: str) -> dict[str, Any]:
        value = as_json(stored) if isinstance(stored, str) else stored
        if isinstance(value, dict):
            return value
        if stored not in {None, ""}:
            self._mend(where, f"the arguments of {call_id} are no JSON object; they are {{}} now")
        return {}

    def _take_result(self, call_id: str | None, message_id: str, content: str | None, at: datetime, where: str) -> None:
        same = [call for call in self._calls if call.original_id == call_id and call_id]
        unanswered = [call for call in same if call.result is None]
        if not unanswered:
            what = "a second result of" if same else "a result of the unknown call"
            self._mend(where, f"{what} {(call_id or 'NULL')[:60]}; kept for people, no model sees it")
            self._keep_aside(message_id, "tool", content, at)
            return
        call = unanswered[-1]
        if content is None:
            self._mend(where, "a result without text (NULL); it is empty now")
        answer = self._last_answer()
        if answer is None or call not in answer.calls:
            self._mend(where, f"the result of {call.id} came after later messages; it follows its call now")
        text = content or ""
        status: Literal["completed", "failed", "rejected"] = "completed"
        if text.startswith("Error: "):
            status = "rejected" if text.startswith(_REJECTED) else "failed"
        call.result = ResultRecord(message_id=message_id, text=text, status=status, at=at)

    def _keep_aside(self, message_id: str, role: Literal["system", "tool"], content: str | None, at: datetime) -> None:
        self._turn(at).steps.append(StrayRecord(message_id=message_id, role=role, content=content or "", at=at))

    def _settle(self, call: _Call, approval: ApprovalRecord) -> None:
        """Bring the approval of an answered call to its end."""
        assert call.result is not None
        if approval.status == "pending":
            call.approval = msgspec.structs.replace(approval, status="cancelled", decided_at=call.result.at)
            note = Note(
                kind="pending_approvals",
                where=f"{self._session_id} {approval.id}",
                what=f"pending although {call.id} is answered or cannot be any more; it is cancelled now",
            )
            self.repairs.append(note)
        elif approval.status == "rejected" and call.result.message_id is not None:
            call.result = msgspec.structs.replace(call.result, status="rejected")


def _freeze(answer: _Answer) -> AnswerRecord:
    return AnswerRecord(
        message_id=answer.message_id,
        content=answer.content,
        at=answer.at,
        calls=tuple(
            CallRecord(
                id=call.id,
                tool_name=call.name,
                arguments=call.arguments,
                result=call.result,
                approval=call.approval,
            )
            for call in answer.calls
        ),
        metadata=answer.metadata,
    )
