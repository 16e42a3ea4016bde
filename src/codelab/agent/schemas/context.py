"""What a model sees of a session."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from codelab.agent.providers import ChatMessage

__all__ = ("ContextMessage", "ContextView", "Summary")


class Summary(msgspec.Struct):
    """What stands in the place of everything up to a message."""

    text: str
    until_message_id: str
    model: str
    usage: dict[str, int | None] | None
    created_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.summaries``."""
        usage = {"input_tokens": row.input_tokens, "output_tokens": row.output_tokens}
        known = row.input_tokens is not None
        return cls(row.text, row.message_id, row.model, usage if known else None, row.created_at)


class ContextMessage(msgspec.Struct, omit_defaults=True):
    """One message as the model is sent it; ``tool_calls`` are in OpenAI's shape, ``images`` the types of images."""

    role: str
    content: str | None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    images: list[str] | None = None

    @classmethod
    def of(cls, message: ChatMessage) -> Self:
        """Make it from a message of a request."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        images = [image.media_type for image in message.images]
        return cls(message.role, message.content, message.name, message.tool_call_id, calls or None, images or None)


class ContextView(msgspec.Struct):
    """The request that a model would be sent; ``limit`` is how many tokens it may have."""

    session_id: str
    tokens_estimated: int
    limit: int
    summary: Summary | None
    messages: list[ContextMessage]

    @classmethod
    def of(
        cls, session_id: str, tokens: int, limit: int, summary: Row[Any] | None, messages: Sequence[ChatMessage]
    ) -> Self:
        """Make it from the parts of a request."""
        shown = None if summary is None else Summary.from_row(summary)
        return cls(session_id, tokens, limit, shown, [ContextMessage.of(message) for message in messages])
