"""Writing the request of Anthropic's messages API.

Its rules: roles alternate and the first is the user's, results come first in the message after their calls, no text is
empty, ids and names have few characters, and thinking goes back as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.text import scrub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.providers.base import ChatMessage, ModelRequest

__all__ = ("encode_request",)

#: Tokens of one answer where nobody knows better: every model since Claude 3.5 takes as many.
DEFAULT_MAX_TOKENS = 8192
_CACHED = {"cache_control": {"type": "ephemeral"}}
_GO_ON = "(The conversation goes on.)"

Block = dict[str, Any]


def encode_request(request: ModelRequest, *, thinking: str = "default", temperature: bool = True) -> bytes:
    """Write the body of ``POST /v1/messages``.

    The tools, the system prompt, the whole transcript, and what of it was sent before end in marks for the provider's
    cache: four, which is as many as it takes.
    """
    messages = _encode_messages(request.messages)
    mode = _thinking(thinking, messages)
    limit = request.max_output_tokens or DEFAULT_MAX_TOKENS
    if mode and "budget_tokens" in mode:
        limit = max(limit, mode["budget_tokens"] + 1024)
    body: dict[str, Any] = {"model": request.model, "max_tokens": limit, "stream": True, "messages": messages}
    system = "\n\n".join(scrub(message.content or "") for message in request.messages if message.role == "system")
    if system.strip():
        body["system"] = [{"type": "text", "text": system} | _CACHED]
    if request.tools:
        tools: list[Block] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
        tools[-1] = tools[-1] | _CACHED
        body["tools"] = tools
    if mode:
        body["thinking"] = mode
    if request.temperature is not None and temperature and (mode is None or mode["type"] == "disabled"):
        body["temperature"] = min(request.temperature, 1.0)
    return msgspec.json.encode(body)


def _thinking(thinking: str, messages: Sequence[Block]) -> dict[str, Any] | None:
    match thinking:
        case "default":
            return None
        case "off":
            return {"type": "disabled"}
        case "adaptive":
            return {"type": "adaptive", "display": "summarized"}
    # With a budget the API wants the thinking of the answer whose tools have just been run; an answer of another
    # model has none that it would take, and thinking rests until the next turn.
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    in_loop = messages[-1]["content"][0]["type"] == "tool_result"
    if in_loop and last is not None and "thinking" not in last["content"][0]["type"]:
        return None
    return {"type": "enabled", "budget_tokens": max(1024, int(thinking))}


def _encode_messages(messages: Sequence[ChatMessage]) -> list[Block]:
    ids = _Ids()
    encoded: list[Block] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _assistant(message, ids) if role == "assistant" else _user(message, ids)
        if not blocks:
            continue
        if encoded and encoded[-1]["role"] == role:
            encoded[-1]["content"] += blocks
        else:
            encoded.append({"role": role, "content": blocks})
    if not encoded or encoded[0]["role"] == "assistant":
        encoded.insert(0, {"role": "user", "content": [{"type": "text", "text": _GO_ON}]})
    last = encoded[-1]["content"][-1]
    if encoded[-1]["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()
    # The second mark is where the request before this one ended: the provider looks back only 20 blocks from a mark for
    # what it has, and the calls and results of one step may be more.
    asked = [message for message in encoded[:-1] if message["role"] == "user"]
    for each in (*asked[-1:], encoded[-1]):
        if "thinking" not in each["content"][-1]["type"]:  # thinking cannot be marked
            each["content"][-1].update(_CACHED)
    return encoded


def _user(message: ChatMessage, ids: _Ids) -> list[Block]:
    text = scrub(message.content or "")
    if message.role == "tool":
        result: Block = {"type": "tool_result", "tool_use_id": ids.known(message.tool_call_id or ""), "content": text}
        if text.startswith("Error: "):
            result["is_error"] = True
        return [result]
    blocks: list[Block] = [
        {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}
        for image in message.images
    ]
    if text.strip():
        blocks.append({"type": "text", "text": text})
    return blocks


def _assistant(message: ChatMessage, ids: _Ids) -> list[Block]:
    blocks: list[Block] = []
    text, said = scrub(message.content or ""), 0

    def say(until: int) -> None:
        nonlocal said
        if (piece := text[said:until]).strip():
            blocks.append({"type": "text", "text": piece})
        said = max(said, until)

    for part in message.reasoning:
        say(part.at)
        if part.redacted is not None:
            blocks.append({"type": "redacted_thinking", "data": part.redacted})
        elif part.signature is not None:
            blocks.append({"type": "thinking", "thinking": part.text, "signature": part.signature})
    say(len(text))
    blocks += [
        {"type": "tool_use", "id": ids.new(call.id), "name": _as_name(call.name), "input": _as_object(call.arguments)}
        for call in message.tool_calls
    ]
    if blocks and all("thinking" in block["type"] for block in blocks):
        return []  # thinking alone is no message
    return blocks


class _Ids:
    """Give calls ids of the characters that Anthropic takes; other models make up others."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def new(self, call_id: str) -> str:
        plain = re.sub(r"[^a-zA-Z0-9_-]", "_", call_id) or "call"
        given, number = plain, 1
        while given in self._taken:
            number += 1
            given = f"{plain}_{number}"
        self._taken.add(given)
        self._given[call_id] = given
        return given

    def known(self, call_id: str) -> str:
        return self._given.get(call_id) or self.new(call_id)


def _as_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unknown"


def _as_object(arguments: str) -> Any:
    try:
        value = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
