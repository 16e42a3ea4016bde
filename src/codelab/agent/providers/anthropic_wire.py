"""The events of Anthropic's messages API as far as they are read; unknown members are ignored."""

from __future__ import annotations

import json
from typing import Any

import msgspec

__all__ = ("Block", "Delta", "Event", "Message", "Usage", "read_event")


class Block(msgspec.Struct):
    """One block of the content."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class Usage(msgspec.Struct):
    """Token counts; those of ``message_delta`` are totals."""

    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    cache_creation_input_tokens: int | float | None = None
    cache_read_input_tokens: int | float | None = None
    output_tokens_details: Any = None


class Delta(msgspec.Struct):
    """More of a block, or of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Message(msgspec.Struct):
    """The head of a message."""

    usage: Usage | None = None


class Event(msgspec.Struct):
    """Any event; what a type does not have is null."""

    type: str | None = None
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Usage | None = None
    error: Any = None
    # A whole message, from servers that ignore ``stream``, has these at its top.
    content: list[Block] | None = None
    stop_reason: str | None = None


_decode = msgspec.json.Decoder(Event).decode


def read_event(data: bytes) -> tuple[Event, bool]:
    """Read an event, and tell whether it may hold lone surrogates. Raises ``ValueError`` or ``RecursionError``."""
    try:
        return _decode(data), False
    except (ValueError, RecursionError):
        return msgspec.convert(json.loads(data.decode("utf-8", "replace")), Event, strict=False), True
