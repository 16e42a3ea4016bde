"""What goes over the WebSocket: commands of a client, answers to them, and events (``docs/api.md``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from codelab.agent.schemas import CallId, ClientId, Decision, NewMessage, SwitchRequest, ToolResult
from codelab.errors import BadRequest
from codelab.problems import document, name_member
from codelab.text import Input, scrub
from codelab.web import read_json

if TYPE_CHECKING:
    from codelab.agent.repository.events import Event
    from codelab.errors import CodelabError

__all__ = (
    "FRAMES",
    "Cancel",
    "Change",
    "ClaimCall",
    "Command",
    "Decide",
    "FrameError",
    "Ping",
    "SendMessage",
    "SendResult",
    "Switch",
    "event_frame",
    "read_frame",
    "refusal_frame",
    "reply_frame",
)

FrameId = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,128}$(?!\n)")]
_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Ping(Input):
    """Ask for a sign of life."""

    type: ClassVar[str] = "ping"
    id: FrameId


class SendMessage(NewMessage, kw_only=True):
    """Send a user's message."""

    type: ClassVar[str] = "message.send"
    id: FrameId
    idempotency_key: str | None = None


class ClaimCall(Input):
    """Claim a tool call; without ``client_id`` it is the socket's client that does."""

    type: ClassVar[str] = "tool.claim"
    id: FrameId
    call_id: CallId
    client_id: ClientId | None = None
    idempotency_key: str | None = None


class SendResult(ToolResult, kw_only=True):
    """Answer a tool call."""

    type: ClassVar[str] = "tool_result"
    id: FrameId
    idempotency_key: str | None = None


class Decide(Decision, kw_only=True):
    """Decide an approval."""

    type: ClassVar[str] = "approval.decide"
    id: FrameId
    idempotency_key: str | None = None
    approval_id: str


class Switch(SwitchRequest, kw_only=True):
    """Hand the session to another agent."""

    type: ClassVar[str] = "agent.switch"
    id: FrameId
    idempotency_key: str | None = None


class Cancel(Input):
    """Stop the active turn."""

    type: ClassVar[str] = "turn.cancel"
    id: FrameId
    idempotency_key: str | None = None


Change: TypeAlias = SendMessage | ClaimCall | SendResult | Decide | Switch | Cancel
Command: TypeAlias = Ping | Change
#: Every command by the ``type`` of its frame.
FRAMES: dict[str, type[Command]] = {
    kind.type: kind for kind in (Ping, SendMessage, ClaimCall, SendResult, Decide, Switch, Cancel)
}


class FrameError(Exception):
    """Say what is wrong with a frame; ``id`` is what it called itself, where that could be read."""

    def __init__(self, error: CodelabError, frame_id: str | None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.id = frame_id


def read_frame(raw: str | bytes) -> Command:
    """Read the frame of a command.

    Raises:
        FrameError: it is none; the error names the member.
    """
    frame_id: str | None = None
    try:
        value = read_json(raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw, "frame")
        if not isinstance(value, dict):
            raise BadRequest("The frame must be a JSON object.")
        given = value.get("id")
        frame_id = given if isinstance(given, str) and _ID.fullmatch(given) else None
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in FRAMES:
            raise BadRequest(f"type: must be one of {', '.join(FRAMES)}", field="type")
        return msgspec.convert(value, FRAMES[kind])
    except BadRequest as error:
        raise FrameError(error, frame_id) from None
    except UnicodeEncodeError:
        raise FrameError(BadRequest("The frame has a member whose name is no text."), frame_id) from None
    except msgspec.ValidationError as error:
        raise FrameError(_explain(str(error)), frame_id) from None


_AT = re.compile(r"^(.*) - at `\$\.?([^`]*)`$", re.DOTALL)


def _explain(message: str) -> BadRequest:
    found = _AT.match(message)
    field, problem = name_member(found[2] if found else None, found[1] if found else message)
    return BadRequest(f"{field}: {problem}" if field else problem, field=scrub(field) if field else None)


def reply_frame(frame_id: str, result: Any, *, replayed: bool) -> str:
    """Write the answer to a command that was carried out, now or under the same key before."""
    reply = {"reply_to": frame_id, "ok": True, "result": result}
    return msgspec.json.encode(reply | ({"replayed": True} if replayed else {})).decode()


def refusal_frame(frame_id: str | None, error: CodelabError) -> str:
    """Write the answer to a frame that was refused: the problem document as over HTTP."""
    return msgspec.json.encode({"reply_to": frame_id, "ok": False, "error": document(error)}).decode()


def event_frame(event: Event) -> str:
    """Write an event; ``data`` is the JSON that is stored."""
    head = msgspec.json.encode({"seq": event.seq, "type": event.type, "created_at": event.created_at}).decode()
    return f'{head[:-1]},"data":{event.data}}}'
