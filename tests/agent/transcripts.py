"""What a model server accepts, what it may answer, and what a client reads of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from tests.agent.providers.upstream import chunk, chunks_of, event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.server import Event

__all__ = ("END", "asked", "call", "calls_answer", "check_transcript", "last", "text_of", "types")

END = ("turn.completed", "turn.failed", "turn.cancelled")


def check_transcript(body: dict[str, Any]) -> None:
    """Fail unless a request is one that OpenAI takes: above all, each call has its one result right after it."""
    messages = body["messages"]
    assert [m["role"] for m in messages].count("system") == 1
    assert (messages[0]["role"], messages[1]["role"]) == ("system", "user")
    assert messages[-1]["role"] in {"user", "tool"}
    open_calls: list[str] = []
    seen: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls, f"a result without its call: {message}"
            open_calls.remove(message["tool_call_id"])
            assert isinstance(message["content"], str)
            continue
        assert not open_calls, f"no result for {open_calls} before {message}"
        calls = message.get("tool_calls", [])
        assert isinstance(message["content"], str) or calls or is_shown(message)
        for made in calls:
            assert made["id"] not in seen, f"the id {made['id']} occurs twice"
            seen.add(made["id"])
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", made["function"]["name"])
            assert isinstance(msgspec.json.decode(made["function"]["arguments"]), dict)
        open_calls = [made["id"] for made in calls]
    assert not open_calls, f"no result for {open_calls}"
    names = [tool["function"]["name"] for tool in body.get("tools", [])]
    assert len(set(names)) == len(names)


def is_shown(message: dict[str, Any]) -> bool:
    """Tell whether a message is one of a user with images and text."""
    kinds = [part["type"] for part in message["content"]]
    return message["role"] == "user" and set(kinds) == {"image_url", "text"} and kinds[-1] == "text"


def call(name: str, arguments: Any, *, id: str | None = None) -> dict[str, Any]:  # noqa: A002 - the field's name
    """Make a whole tool call; arguments that are no text are written as JSON."""
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {"id": id, "function": {"name": name, "arguments": text}}


def calls_answer(*calls: dict[str, Any], text: str | None = None) -> bytes:
    """Make a whole answer that asks for tools."""
    numbered = [made | {"index": index} for index, made in enumerate(calls)]
    return chunks_of(chunk(text, tool_calls=numbered), chunk(finish="tool_calls"))


def asked(body: dict[str, Any]) -> str:
    """Return the last message of the user in a request."""
    return next(str(m["content"]) for m in reversed(body["messages"]) if m["role"] == "user")


def text_of(word: str) -> bytes:
    """Make one piece of a streamed answer."""
    return event(chunk(word))


def types(events: Iterable[Event]) -> list[str]:
    """Name the events, repeated deltas once."""
    names: list[str] = []
    for each in events:
        if not (each.type == "message.delta" and names[-1:] == ["message.delta"]):
            names.append(each.type)
    return names


def last(events: list[Event], kind: str) -> dict[str, Any]:
    """Return the data of the last event of a type."""
    return next(each.data for each in reversed(events) if each.type == kind)
