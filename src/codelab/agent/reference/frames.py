"""What the reference's clients send: four kinds of messages, read as leniently as the clients are different."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from codelab.agent.schemas import ToolResult
from codelab.errors import BadRequest
from codelab.text import Input, scrub
from codelab.web import read_json

__all__ = ("HitlDecision", "Message", "SwitchAgent", "ToolResult", "UserMessage", "read_message", "read_text")

DECISIONS = ("approve", "edit", "reject")


class UserMessage(Input):
    """Say something to the session's agent, or to ``agent_type``; what ``role`` says is not looked at."""

    content: str | None = None
    agent_type: str | None = None


class SwitchAgent(Input):
    """Hand the session to another agent."""

    agent_type: str | None = None
    reason: str | None = None


class HitlDecision(Input):
    """Decide what waits for a person."""

    call_id: Annotated[str, Meta(max_length=255)] | None = None
    decision: str | None = None
    modified_arguments: dict[str, Any] | None = None
    feedback: str | None = None


Message: TypeAlias = UserMessage | ToolResult | SwitchAgent | HitlDecision
_KINDS: dict[str, type[Any]] = {
    "user_message": UserMessage,
    "tool_result": ToolResult,
    "switch_agent": SwitchAgent,
    "hitl_decision": HitlDecision,
}
_REQUIRED = {
    "tool_result": ("call_id",),
    "switch_agent": ("agent_type",),
    "hitl_decision": ("call_id", "decision"),
}


def read_text(raw: str | bytes) -> Message:
    """Read a frame of a WebSocket.

    Raises:
        BadRequest: it is no message; with the reference's words where it has some.
    """
    try:
        value = read_json(raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw, "message")
    except BadRequest as error:
        raise BadRequest(f"Invalid JSON message: {error.detail}") from None
    return read_message(value)


def read_message(value: Any) -> Message:
    """Read a message; members that are null are as absent, and unknown ones are ignored.

    Raises:
        BadRequest: it is none; with the reference's words where it has some.
    """
    if not isinstance(value, dict):
        raise BadRequest("Invalid JSON message: an object is expected")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadRequest(f"Unknown message type: {scrub(str(kind))[:100]}", field="type")
    for name in _REQUIRED.get(kind, ()):
        if not value.get(name):
            raise BadRequest(f"{name} is required for {kind} message", field=name)
    try:
        message: Message = msgspec.convert(value, _KINDS[kind])
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid {kind} message: {scrub(str(error))[:500]}") from None
    except UnicodeEncodeError:
        raise BadRequest("Invalid JSON message: a member's name is no text") from None
    if isinstance(message, HitlDecision) and message.decision not in DECISIONS:
        raise BadRequest(f"Invalid HITL decision: {(message.decision or '')[:100]}", field="decision")
    if isinstance(message, ToolResult):
        message.error = message.error or None
    return message
