"""The shapes of docs/api.md that the chat reads; unknown members are ignored."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from codelab.client.errors import ClientError

__all__ = (
    "Accepted",
    "ActiveTurn",
    "ApprovalRequested",
    "Claim",
    "Event",
    "McpServer",
    "McpTool",
    "MessageCompleted",
    "MessageDelta",
    "PlanItem",
    "PlanUpdated",
    "Session",
    "ToolCompleted",
    "ToolRequested",
    "encode",
    "read",
    "read_event",
)

T = TypeVar("T")


class ActiveTurn(msgspec.Struct):
    """The turn that runs or waits in a session."""

    turn_id: str
    state: str


class Session(msgspec.Struct):
    """A session of the server."""

    session_id: str
    title: str | None = None
    current_agent: str | None = None
    model: str | None = None
    message_count: int = 0
    metadata: dict[str, Any] = {}
    last_seq: int = 0
    active_turn: ActiveTurn | None = None


class McpTool(msgspec.Struct):
    """A tool of an MCP server: ``tool_name`` is what models call it, ``name`` what its server does."""

    tool_name: str
    name: str


class McpServer(msgspec.Struct):
    """An MCP server of a session."""

    id: str
    tools: list[McpTool]


class Accepted(msgspec.Struct):
    """The acknowledgement of a message."""

    message_id: str
    turn_id: str
    seq: int


class Event(msgspec.Struct):
    """One event of a session's log."""

    seq: int
    type: str
    data: dict[str, Any]


class MessageDelta(msgspec.Struct):
    """More of an answer; ``offset`` counts code points before ``text``."""

    message_id: str
    offset: int
    text: str


class MessageCompleted(msgspec.Struct):
    """A whole answer."""

    message_id: str
    turn_id: str
    status: str
    content: str | None = None
    agent: str | None = None


class ToolRequested(msgspec.Struct):
    """The server asks this client to run a tool."""

    call_id: str
    turn_id: str
    tool_name: str
    arguments: Any = None
    approval_id: str | None = None


class Claim(msgspec.Struct):
    """The server gives a call to this client, with what it is to run."""

    call_id: str
    tool_name: str
    arguments: Any = None


class ToolCompleted(msgspec.Struct):
    """What the model will see of a call."""

    call_id: str
    turn_id: str
    tool_name: str
    status: str
    error: str | None = None


class PlanItem(msgspec.Struct):
    """One thing on an agent's to-do list."""

    text: str
    status: str


class PlanUpdated(msgspec.Struct):
    """An agent shows its to-do list."""

    items: list[PlanItem]


class ApprovalRequested(msgspec.Struct):
    """A person must decide about a call, or whether a turn goes on."""

    approval_id: str
    call_id: str
    turn_id: str
    tool_name: str
    arguments: Any = None
    reason: str | None = None
    request_type: str = "tool"


def read(value: object, kind: type[T]) -> T:
    """Read a value of the server.

    Raises:
        ClientError: it has another shape.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ClientError(f"The server sent something unexpected ({kind.__name__}: {error}).") from None


def read_event(seq: int, kind: str, data: str) -> Event:
    """Read an event of the stream.

    Raises:
        ClientError: its data is no JSON object.
    """
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise ClientError("The server sent an event that is not a JSON object.")
    return Event(seq, kind, found)


def encode(body: Any) -> bytes:
    """Write the body of a request.

    Raises:
        ClientError: a text in it is no Unicode.
    """
    try:
        return msgspec.json.encode(body)
    except (UnicodeEncodeError, msgspec.ValidationError):
        raise ClientError("The text holds characters that are not Unicode (lone surrogates).") from None
