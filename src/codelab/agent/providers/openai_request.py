"""Writing the request of OpenAI chat completions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.text import scrub

if TYPE_CHECKING:
    from codelab.agent.providers.base import ChatMessage, Image, ModelRequest

__all__ = ("encode_request",)


def encode_request(request: ModelRequest, *, include_usage: bool) -> bytes:
    """Write the body of ``POST /v1/chat/completions``."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_encode_message(message) for message in request.messages],
        "stream": True,
    }
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [{"type": "function", "function": msgspec.to_builtins(tool)} for tool in request.tools]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return msgspec.json.encode(body)


def _encode_message(message: ChatMessage) -> dict[str, Any]:
    content = scrub(message.content or "")
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": content}
    body: dict[str, Any] = {"role": message.role, "content": content}
    if message.images:
        body["content"] = [*map(_encode_image, message.images), *_text_parts(content)]
    if message.name:
        body["name"] = message.name
    if message.tool_calls:
        body["content"] = content or None
        body["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": _as_name(call.name), "arguments": _as_object(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return body


def _text_parts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _encode_image(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{image.data}"}}


def _as_name(name: str) -> str:
    # OpenAI refuses a transcript whose names are not of this kind; models make up others, and those were denied.
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unknown"


def _as_object(arguments: str) -> str:
    # Many servers parse earlier arguments and refuse the whole transcript, for ever, when one call was malformed.
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return "{}"
    return arguments
