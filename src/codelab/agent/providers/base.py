"""The protocol between a turn and a model: one request in, a stream of deltas out.

A provider is anything with the three members of ``ModelClient``. ``fake.py`` is the shortest example.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Callable

__all__ = (
    "ChatMessage",
    "Delta",
    "Finish",
    "Image",
    "ModelClient",
    "ModelError",
    "ModelRequest",
    "Pace",
    "ReasoningDelta",
    "ReasoningPart",
    "TextDelta",
    "ToolCall",
    "ToolCallBuffer",
    "ToolCallDelta",
    "ToolSpec",
    "Usage",
)


class ToolSpec(msgspec.Struct, frozen=True):
    """Describe a tool to the model; ``parameters`` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolCall(msgspec.Struct, frozen=True):
    """Hold one complete tool call; ``arguments`` is the JSON text as the model wrote it, which may be malformed."""

    id: str
    name: str
    arguments: str


class ReasoningPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold one block of what a model thought before it said what follows ``at`` code points of its text.

    ``signature`` and ``redacted`` (a block that only the provider can read) are the provider's: they go back as they
    came, and to nobody else.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    at: int = 0


class Image(msgspec.Struct, frozen=True):
    """Hold an image; ``data`` is base64 (RFC 4648 section 4)."""

    media_type: str
    data: str


class ChatMessage(msgspec.Struct, frozen=True):
    """Hold one message of the transcript; ``tool_call_id`` says which call a ``tool`` message answers.

    ``reasoning`` is there only for the model that it came from.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: tuple[ReasoningPart, ...] = ()
    images: tuple[Image, ...] = ()


class ModelRequest(msgspec.Struct, frozen=True):
    """Ask a model for the next message of a transcript.

    ``max_output_tokens`` is sent where a provider demands a number.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """Carry more text of the answer; it never holds U+0000 or a surrogate."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """Carry more of what the model thinks; one with ``signature`` or ``redacted`` ends its block, see ReasoningPart."""

    text: str
    signature: str | None = None
    redacted: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """Carry a fragment of the tool call at ``index``; ``ToolCallBuffer`` puts fragments together."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Count the tokens of one model call so far; a later one takes the place of an earlier one.

    ``input_tokens`` are all that were read, those from and into the provider's cache included; ``output_tokens`` are
    all that were written, those of reasoning included.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Finish(msgspec.Struct, frozen=True, gc=False):
    """End a complete answer.

    ``reason`` is ``stop``, ``length`` (the answer was cut), ``tool_calls``, ``content_filter``, ``refusal`` (the model
    will not answer), ``pause`` (it wants to be called again with what it said), or another word of the provider.
    """

    reason: str


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Usage | Finish
#: Tells what to wait for before more is read of an answer, None where it is read at once.
Pace: TypeAlias = "Callable[[], Future[None] | None]"


class ModelError(Exception):
    """Report that a model call gave no complete answer.

    ``code`` is stable and for programs: ``model_unreachable``, ``model_timeout`` (silence, or 408),
    ``model_disconnected``, ``model_garbage``, ``model_credentials`` (401, 403), ``model_rate_limited`` (429),
    ``model_refused`` (any other status below 500), ``model_overloaded`` (503, 529), ``model_failed`` (any other 5xx).
    ``message`` is for people and never holds an address, a key or markup. ``retry_after`` is in seconds, ``status`` the
    HTTP status, where the provider gave one. ``begun`` says that a part of the answer had come; the reader of
    the stream sets it.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.status = status
        self.begun = False


class ModelClient(Protocol):
    """Talk to one provider of models."""

    name: str

    def stream(self, request: ModelRequest, pace: Pace | None = None) -> AsyncGenerator[Delta, None]:
        """Stream the answer: text, reasoning and fragments of calls, ``Usage`` whenever it is told, one ``Finish``.

        What ``pace`` returns is waited for before each read of the connection.
        It is an async generator; closing it or cancelling the task that waits for it aborts the upstream call at once.
        Raises ``ModelError``; deltas before it were part of an answer that is not complete.
        """
        ...

    async def close(self) -> None:
        """Release the connections; calls that still run end with ``model_disconnected``."""
        ...


class ToolCallBuffer:
    """Collect the fragments of tool calls into complete calls.

    Servers disagree about fragments: some repeat id and name in each, some invent a new id for each, some give every
    call the same index, some send no id at all. A fragment continues the latest call at its index unless it clearly
    begins another.
    """

    def __init__(self) -> None:
        self._at: dict[int, list[_OpenCall]] = {}

    def __bool__(self) -> bool:
        return bool(self._at)

    def add(self, delta: ToolCallDelta) -> None:
        """Take the next fragment."""
        opened = self._at.setdefault(delta.index, [])
        call = _find_continued(opened, delta)
        if call is None:
            call = _OpenCall()
            opened.append(call)
        call.id = call.id or delta.id or ""
        call.name = call.name or delta.name or ""
        call.fragments.append(delta.arguments)

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls in the order of their index, each with an id of its own and ``{}`` for no arguments."""
        result: list[ToolCall] = []
        seen: set[str] = set()
        for index in sorted(self._at):
            for call in self._at[index]:
                if not call.id or call.id in seen:
                    call.id = f"call_{uuid.uuid4().hex[:24]}"
                seen.add(call.id)
                arguments = "".join(call.fragments)
                result.append(ToolCall(call.id, call.name, arguments if arguments.strip() else "{}"))
        return tuple(result)


class _OpenCall:
    __slots__ = ("fragments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.fragments: list[str] = []

    def is_whole(self) -> bool:
        try:
            msgspec.json.decode("".join(self.fragments))
        except ValueError:
            return False
        return True


def _find_continued(opened: list[_OpenCall], delta: ToolCallDelta) -> _OpenCall | None:
    if delta.id:
        for call in opened:
            if call.id == delta.id:
                return call
    if not opened:
        return None
    latest = opened[-1]
    if not delta.name or not latest.name:
        return latest
    if delta.id and latest.id:
        return None
    if delta.name != latest.name:
        return None
    # The name was repeated without an id: it is another call only when the arguments start over after whole ones.
    begins_again = delta.arguments.lstrip().startswith("{") and latest.is_whole()
    return None if begins_again else latest
