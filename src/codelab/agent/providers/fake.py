"""``fake-llm``, the default model: no key, no network, and the whole loop on a person's own files.

It is also the example of a provider: how one speaks is here, what this one says is decided in ``fake_script.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.providers.base import Delta, Finish, ModelRequest, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from codelab.agent.providers.fake_script import answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from codelab.agent.providers.base import Pace

__all__ = ("FakeClient",)

_CHARACTERS_PER_TOKEN = 4


class FakeClient:
    """Answer from the transcript alone, the same every time; ``pace`` is the pause before each word, in seconds."""

    name = "fake-llm"

    def __init__(self, *, pace: float = 0.01) -> None:
        self._pace = pace

    async def stream(self, request: ModelRequest, pace: Pace | None = None) -> AsyncGenerator[Delta, None]:  # noqa: ARG002 - it reads nothing
        """Stream thoughts and answer word by word and tool calls in fragments, as real models do."""
        reply = answer(request)
        written = len(reply.thought) + len(reply.text)
        for word in re.findall(r"\s*\S+\s*", reply.thought):
            await asyncio.sleep(self._pace)
            yield ReasoningDelta(word)
        for word in re.findall(r"\s*\S+\s*", reply.text):
            await asyncio.sleep(self._pace)
            yield TextDelta(word)
        for index, call in enumerate(reply.calls):
            arguments = msgspec.json.encode(call.arguments).decode()
            written += len(arguments)
            yield ToolCallDelta(index, _make_call_id(request, index), call.tool, "")
            for fragment in re.findall(r"(?s).{1,24}", arguments):
                await asyncio.sleep(self._pace)
                yield ToolCallDelta(index, None, None, fragment)
        read = sum(len(message.content or "") for message in request.messages)
        thought = _estimate_tokens(len(reply.thought))
        yield Usage(_estimate_tokens(read), _estimate_tokens(written), reasoning_tokens=thought)
        yield Finish("tool_calls" if reply.calls else "stop")

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _make_call_id(request: ModelRequest, index: int) -> str:
    # The transcript grows with every call, so a digest of it never repeats within it.
    digest = hashlib.sha256(msgspec.json.encode(request.messages)).hexdigest()
    return f"call_{digest[:16]}_{index}"


def _estimate_tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
