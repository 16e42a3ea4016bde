"""The chunks of OpenAI chat completions as far as they are read; unknown members are ignored."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from codelab.agent.providers import base
from codelab.agent.providers.counting import count

__all__ = ("Choice", "Chunk", "Function", "Message", "Part", "ToolCall", "Usage", "read_chunk", "read_usage")


class Part(msgspec.Struct):
    """A piece of a content that is a list."""

    text: str | None = None


class Function(msgspec.Struct):
    """What is called."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCall(msgspec.Struct):
    """A tool call or a fragment of one."""

    index: int | None = None
    id: str | int | None = None
    function: Function | None = None


class Message(msgspec.Struct):
    """A message or more of one."""

    content: str | list[Part] | None = None
    refusal: str | None = None
    # DeepSeek, vLLM before 0.12 and llama.cpp say ``reasoning_content``; OpenRouter, Ollama and vLLM say ``reasoning``.
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    """An answer; only the first is read."""

    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    # Read leniently: servers disagree about their shape, and no answer may be lost to its bill.
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None


class Chunk(msgspec.Struct):
    """One event of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def read_chunk(event: bytes) -> tuple[Chunk, bool]:
    """Read a chunk, and tell whether it may hold lone surrogates. Raises ``ValueError`` or ``RecursionError``.

    What msgspec refuses is read leniently: lone surrogates, bytes that are not UTF-8, numbers in strings.
    """
    try:
        return _decode(event), False
    except (ValueError, RecursionError):
        return msgspec.convert(json.loads(event.decode("utf-8", "replace")), Chunk, strict=False), True


def read_usage(usage: Usage) -> base.Usage:
    """Read the token counts of a completion."""
    cached = _detail(usage.prompt_tokens_details, "cached_tokens") or count(usage.prompt_cache_hit_tokens)
    return base.Usage(
        input_tokens=count(usage.prompt_tokens),
        output_tokens=count(usage.completion_tokens),
        cache_read_tokens=cached,
        cache_write_tokens=_detail(usage.prompt_tokens_details, "cache_write_tokens"),
        reasoning_tokens=_detail(usage.completion_tokens_details, "reasoning_tokens"),
    )


def _detail(details: Any, name: str) -> int:
    return count(details.get(name)) if isinstance(details, dict) else 0
