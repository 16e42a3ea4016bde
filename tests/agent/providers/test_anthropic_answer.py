from __future__ import annotations

import msgspec
import pytest

from codelab.agent.providers import (
    Delta,
    Finish,
    ModelError,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    Usage,
)
from codelab.agent.providers.anthropic_answer import MAX_EVENT_BYTES, AnthropicReader
from tests.agent.providers.messages_api import answer, frame, frames, text_block, thinking_block, tool_block


def _read(*blocks: bytes) -> list[Delta]:
    reader = AnthropicReader()
    deltas: list[Delta] = []
    for block in blocks:
        deltas += reader.feed(block)
        if reader.done:
            break
    return deltas + reader.end()


def _calls(deltas: list[Delta]) -> tuple[ToolCall, ...]:
    buffer = ToolCallBuffer()
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            buffer.add(delta)
    return buffer.calls()


RICH = answer(
    thinking_block(0, "Let me ", "see.", signature="EqQB"),
    [frame("content_block_start", index=1, content_block={"type": "redacted_thinking", "data": "b3BhcXVl"})],
    text_block(2, "I will ", "read 🎈 both."),
    tool_block(3, "toolu_1", "read_file", '{"pa', 'th": "a', '.txt"}'),
    tool_block(4, "toolu_2", "list_files"),
    [frame("something_new", index=4)],
    stop="tool_use",
    usage={
        "input_tokens": 10,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 3000,
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 15},
    },
)


def test_everything_that_an_answer_may_hold_is_read() -> None:
    """Thinking with its signature, redacted thinking, text, calls, usage with the cache: in the order of the stream."""
    deltas = _read(RICH)

    assert deltas[:7] == [
        Usage(25, 1),
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        ReasoningDelta("", signature="EqQB"),
        ReasoningDelta("", redacted="b3BhcXVl"),
        TextDelta("I will "),
        TextDelta("read 🎈 both."),
    ]
    assert [(call.id, call.name, call.arguments) for call in _calls(deltas)] == [
        ("toolu_1", "read_file", '{"path": "a.txt"}'),
        ("toolu_2", "list_files", "{}"),
    ]
    assert deltas[-2:] == [Usage(3210, 40, 3000, 200, 15), Finish("tool_calls")]


def test_it_does_not_matter_where_the_stream_is_cut() -> None:
    """Fed byte by byte the answer is the same."""
    assert _read(*(RICH[i : i + 1] for i in range(len(RICH)))) == _read(RICH)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("something_new", "something_new"),
    ],
)
def test_stop_reasons(stop: str, reason: str) -> None:
    """Each reason has its word, and an unknown one keeps its own."""
    assert _read(answer(text_block(0, "a"), stop=stop))[-1] == Finish(reason)


def test_surrogates_cut_in_two_are_joined() -> None:
    """Halves of a character become it, a half without a partner becomes U+FFFD, in every kind of block."""
    halves = (rb"\ud83d", rb"\ude00 \ud800!")
    body = b""
    for index, (kind, member) in enumerate(
        [("thinking_delta", "thinking"), ("text_delta", "text"), ("input_json_delta", "partial_json")]
    ):
        block = {"thinking_delta": "thinking", "text_delta": "text", "input_json_delta": "tool_use"}[kind]
        body += frame("content_block_start", index=index, content_block={"type": block, "name": "f", "id": f"c{index}"})
        for half in halves:
            delta = frame("content_block_delta", index=index, delta={"type": kind, member: "%"})
            body += delta.replace(b"%", half)
        body += frame("content_block_stop", index=index)
    deltas = _read(body + answer(stop="tool_use"))

    assert "".join(d.text for d in deltas if isinstance(d, ReasoningDelta)) == "😀 \ufffd!"
    assert "".join(d.text for d in deltas if isinstance(d, TextDelta)) == "😀 \ufffd!"
    assert [call.arguments for call in _calls(deltas)] == ["😀 \ufffd!"]


def test_a_whole_message_is_an_answer_too() -> None:
    """A server that ignores ``stream`` answers with one JSON object."""
    content = [{"type": "text", "text": "Hi."}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}]
    body = {"type": "message", "content": content, "stop_reason": "tool_use", "usage": {"input_tokens": 1}}
    deltas = _read(msgspec.json.encode(body))

    assert deltas[0] == TextDelta("Hi.")
    assert [call.arguments for call in _calls(deltas)] == ['{"a": [1]}']
    assert deltas[-1] == Finish("tool_calls")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "model_garbage"),
        (b"hello", "model_garbage"),
        (b"<html>", "model_garbage"),
        (b"{}", "model_garbage"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', "model_overloaded"),
        (b"".join(frames(text_block(0, "a"))[:-2]), "model_disconnected"),
        (frame("message_start", message={})[:-9], "model_disconnected"),
        (b"".join(frames(text_block(0, "a"))[:4]) + b'data: {"type": "content_blo\n\n', "model_garbage"),
        (frame("error", error={"type": "overloaded_error", "message": "Overloaded"}), "model_overloaded"),
        (frame("error", error={"type": "rate_limit_error", "message": "Slow"}), "model_rate_limited"),
        (frame("error", error={"type": "api_error", "message": "x"}), "model_failed"),
        (frame("error", error={"type": "request_too_large", "message": "x"}), "model_refused"),
        (frame("error", error=None), "model_failed"),
        (b"data: " + b"x" * (MAX_EVENT_BYTES + 1), "model_garbage"),
    ],
)
def test_an_answer_that_is_not_complete_is_an_error(body: bytes, code: str) -> None:
    """What was cut, is no message, or ends in an error event has its code."""
    with pytest.raises(ModelError) as caught:
        _read(body)

    assert caught.value.code == code


def test_deltas_before_an_error_are_kept() -> None:
    """What was said, and used, before an error in the middle came out before it is raised."""
    reader = AnthropicReader()
    said = reader.feed(b"".join(frames(text_block(0, "Once"))[:5]))
    reader.feed(frame("error", error={"type": "overloaded_error"}))

    assert said == [Usage(25, 1), TextDelta("Once")]
    assert reader.done
    with pytest.raises(ModelError, match="overloaded"):
        reader.end()
