"""Models of both providers that say the same: how each says it, and how its API reads what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tests.agent.providers.messages_api import answer, check_request, text_block, tool_block
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer, check_transcript

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("VOICES", "Asked", "Voice", "check_pairs")

#: A call that a model makes: its id, the tool, the arguments.
Asked = tuple[str, str, dict[str, Any]]


class Voice(Protocol):
    """Speak and read as one provider does."""

    settings: Mapping[str, Any]

    def calls(self, calls: Sequence[Asked], text: str) -> bytes:
        """Make an answer that says a text and makes calls."""
        ...

    def says(self, text: str) -> bytes:
        """Make an answer without calls."""
        ...

    def read(self, body: dict[str, Any]) -> tuple[str, list[list[tuple[str, str]]], list[list[tuple[str, str]]]]:
        """Fail unless the API takes a request; return its system prompt, the calls of each answer, and their results.

        A call is its id and its tool, a result the id and the text.
        """
        ...


class _OpenAI:
    settings: Mapping[str, Any] = {"llm_provider": "openai"}

    def calls(self, calls: Sequence[Asked], text: str) -> bytes:
        return calls_answer(*(call(tool, arguments, id=call_id) for call_id, tool, arguments in calls), text=text)

    def says(self, text: str) -> bytes:
        return text_answer(text)

    def read(self, body: dict[str, Any]) -> tuple[str, list[list[tuple[str, str]]], list[list[tuple[str, str]]]]:
        check_transcript(body)
        made: list[list[tuple[str, str]]] = []
        results: list[list[tuple[str, str]]] = []
        for message in body["messages"]:
            if message.get("tool_calls"):
                made.append([(each["id"], each["function"]["name"]) for each in message["tool_calls"]])
                results.append([])
            elif message["role"] == "tool":
                results[-1].append((message["tool_call_id"], message["content"]))
        return str(body["messages"][0]["content"]), made, results


class _Anthropic:
    settings: Mapping[str, Any] = {"llm_provider": "anthropic"}

    def calls(self, calls: Sequence[Asked], text: str) -> bytes:
        blocks = [
            tool_block(number, call_id, tool, msgspec.json.encode(arguments).decode())
            for number, (call_id, tool, arguments) in enumerate(calls, start=1)
        ]
        return answer(text_block(0, text), *blocks, stop="tool_use")

    def says(self, text: str) -> bytes:
        return answer(text_block(0, text))

    def read(self, body: dict[str, Any]) -> tuple[str, list[list[tuple[str, str]]], list[list[tuple[str, str]]]]:
        check_request(body)
        made: list[list[tuple[str, str]]] = []
        results: list[list[tuple[str, str]]] = []
        for message in body["messages"]:
            used = [(block["id"], block["name"]) for block in message["content"] if block["type"] == "tool_use"]
            given = [
                (block["tool_use_id"], block["content"])
                for block in message["content"]
                if block["type"] == "tool_result"
            ]
            if used:
                made.append(used)
            if given:
                results.append(given)
        return "".join(block["text"] for block in body["system"]), made, results


VOICES: dict[str, Voice] = {"openai": _OpenAI(), "anthropic": _Anthropic()}


def check_pairs(made: list[list[tuple[str, str]]], results: list[list[tuple[str, str]]]) -> None:
    """Fail unless each call of each answer has exactly one result, right after it, and no id comes twice."""
    ids = [call_id for answer in made for call_id, _ in answer]
    assert len(set(ids)) == len(ids), f"an id comes twice: {ids}"
    assert len(results) == len(made), "an answer has no results"
    for answered, given in zip(made, results, strict=True):
        assert sorted(call_id for call_id, _ in answered) == sorted(call_id for call_id, _ in given)
        assert all(text for _, text in given), "a result is empty"
