"""What a server of Anthropic's messages API sends, and what it accepts."""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ("answer", "check_request", "frame", "frames", "text_block", "thinking_block", "tool_block")


def frame(kind: str, **data: Any) -> bytes:
    """Make one event."""
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind} | data) + b"\n\n"


def text_block(index: int, *words: str) -> list[bytes]:
    """Make a block of text."""
    deltas = [frame("content_block_delta", index=index, delta={"type": "text_delta", "text": word}) for word in words]
    return _block(index, {"type": "text", "text": ""}, deltas)


def thinking_block(index: int, *words: str, signature: str = "c2ln") -> list[bytes]:
    """Make a block of thinking with its signature."""
    deltas = [
        frame("content_block_delta", index=index, delta={"type": "thinking_delta", "thinking": word}) for word in words
    ]
    deltas.append(frame("content_block_delta", index=index, delta={"type": "signature_delta", "signature": signature}))
    return _block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)


def tool_block(index: int, call_id: str, name: str, *pieces: str) -> list[bytes]:
    """Make a call whose input comes in pieces."""
    deltas = [
        frame("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
        for piece in pieces
    ]
    return _block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas)


def _block(index: int, block: dict[str, Any], deltas: list[bytes]) -> list[bytes]:
    start = frame("content_block_start", index=index, content_block=block)
    return [start, *deltas, frame("content_block_stop", index=index)]


def frames(*blocks: list[bytes], stop: str = "end_turn", usage: dict[str, Any] | None = None) -> list[bytes]:
    """Make the events of a whole answer."""
    message = {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 25, "output_tokens": 1}}
    return [
        frame("message_start", message=message),
        frame("ping"),
        *(event for block in blocks for event in block),
        frame("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage or {"output_tokens": 9}),
        frame("message_stop"),
    ]


def answer(*blocks: list[bytes], stop: str = "end_turn", usage: dict[str, Any] | None = None) -> bytes:
    """Make a whole answer."""
    return b"".join(frames(*blocks, stop=stop, usage=usage))


def check_request(body: dict[str, Any]) -> None:
    """Fail unless a request is one that the messages API takes."""
    messages = body["messages"]
    assert body["max_tokens"] > 0
    assert messages[0]["role"] == "user"
    open_calls: list[str] = []
    for before, message in zip([None, *messages], messages, strict=False):
        assert message["role"] in {"user", "assistant"}
        assert before is None or before["role"] != message["role"], "two messages of one role in a row"
        assert message["content"]
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert sorted(results) == sorted(open_calls), f"{open_calls} are answered by {results}"
        kinds = [block["type"] for block in message["content"]]
        assert kinds[: len(results)] == ["tool_result"] * len(results), "results come first"
        open_calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        for block in message["content"]:
            if block["type"] == "text":
                assert block["text"].strip()
            if block["type"] == "tool_use":
                assert re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"])
                assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"])
                assert isinstance(block["input"], dict)
    assert not open_calls
    marked = msgspec.json.encode(body).count(b'"cache_control"')
    assert marked <= 4
    last = messages[-1]["content"][-1]
    assert "cache_control" in last or "thinking" in last["type"]
