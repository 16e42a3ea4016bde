"""Messages, tool results and what commands on turns are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from codelab.agent.readers import CLIENT_ID
from codelab.agent.schemas.images import MAX_IMAGES, ImageInfo, NewImage
from codelab.errors import BadRequest
from codelab.text import Input, reject_unstorable, scrub, scrub_json

__all__ = (
    "CallId",
    "Claim",
    "ClaimRequest",
    "ClientId",
    "MessageAccepted",
    "NewMessage",
    "Queue",
    "QueuedTurn",
    "ToolResult",
    "ToolResultTaken",
    "TurnState",
)

CallId = Annotated[str, Meta(max_length=255)]
ClientId = Annotated[str, Meta(pattern=CLIENT_ID)]

DeliveryWord = Annotated[
    str, Meta(pattern=r"^(queue|steer|reject)$(?!\n)", extra_json_schema={"enum": ["queue", "steer", "reject"]})
]


class NewMessage(Input):
    """Send a user's message; ``delivery`` says what happens while a turn is active."""

    content: str
    delivery: DeliveryWord = "queue"
    images: Annotated[tuple[NewImage, ...], Meta(max_length=MAX_IMAGES)] = ()


class ToolResult(msgspec.Struct):
    """Answer a tool call: any JSON as ``result``, or ``error``; ``client_id`` is the client that claimed it.

    A tool says what it says: U+0000 and lone surrogates become U+FFFD rather than losing the result.
    """

    call_id: CallId
    result: Any = None
    error: str | None = None
    client_id: ClientId | None = None

    def __post_init__(self) -> None:
        reject_unstorable(self.call_id, "call_id")
        try:
            self.result = scrub_json(self.result)
        except ValueError as error:
            raise BadRequest(f"result: {error}", field="result") from None
        self.error = None if self.error is None else scrub(self.error)


class MessageAccepted(msgspec.Struct):
    """Acknowledge a message: it is kept, and will be answered."""

    message_id: str
    turn_id: str
    seq: int


class ToolResultTaken(msgspec.Struct):
    """Acknowledge a tool result; ``seq`` is that of the recorded outcome."""

    call_id: str
    status: str
    seq: int | None


class ClaimRequest(Input):
    """Claim a tool call, to run it."""

    client_id: ClientId


class Claim(msgspec.Struct):
    """What a client that holds a call runs; ``attempt`` counts how often the call was offered."""

    call_id: str
    turn_id: str
    client_id: str
    tool_name: str
    arguments: dict[str, Any]
    attempt: int


class QueuedTurn(msgspec.Struct, omit_defaults=True):
    """A turn that waits for those before it, and its message."""

    turn_id: str
    message_id: str
    content: str
    created_at: datetime
    images: list[ImageInfo] | None = None


class Queue(msgspec.Struct):
    """What waits in a session, in order."""

    session_id: str
    queue: list[QueuedTurn]
    count: int


class TurnState(msgspec.Struct):
    """Say which turn a command met and what it is now."""

    turn_id: str | None
    state: str | None
