from __future__ import annotations

import msgspec
import pytest

from codelab.agent.providers import Delta, Finish, ModelError, TextDelta, ToolCallBuffer, ToolCallDelta, Usage
from codelab.agent.providers.openai_answer import MAX_EVENT_BYTES, AnswerReader
from tests.agent.providers.upstream import chunk, chunks_of, event, text_answer


def _call(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = ""
) -> dict[str, object]:
    call: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    return call | ({} if index is None else {"index": index}) | ({} if call_id is None else {"id": call_id})


def _read(*blocks: bytes) -> list[Delta]:
    reader = AnswerReader()
    deltas: list[Delta] = []
    for block in blocks:
        deltas += reader.feed(block)
        if reader.done:
            break
    return deltas + reader.end()


def _text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


RICH = (
    b"\xef\xbb\xbf: hello\r\n\r\n"
    + event(chunk("Gr\u00fc\u00dfe \U0001f600"))
    + b'data:{"choices":[]}\r\n\r\nevent: x\rid: 7\rdata: {"choices":\rdata: [{"delta": {"content": "two lines"}}]}\r\r'
    + rb'data: {"choices":[{"delta":{"content":"cut \ud83d"}}]}'
    + b"\n\n"
    + rb'data: {"choices":[{"delta":{"content":"\ude00 \u0000 \ud800 end"}}]}'
    + b"\n\n"
    + event(chunk("beside", tool_calls=[_call(0, "a", "read_file", '{"path":'), _call(1, "b", "run", "{")]))
    + event(chunk(tool_calls=[_call(1, arguments="}"), _call(0, arguments='"x"}')]))
    + event(chunk(finish="tool_calls"))
    + event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}})
    + b"data: [DONE]\n\nignored"
)


def test_everything_a_stream_may_hold_is_read() -> None:
    """Text, tool calls and usage come in the order of the stream, whatever the line ends and the noise between them."""
    deltas = _read(RICH)
    assert _text_of(deltas) == "Gr\u00fc\u00dfe \U0001f600two linescut \U0001f600 \ufffd \ufffd endbeside"
    buffer = ToolCallBuffer()
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            buffer.add(delta)
    assert [(c.id, c.name, c.arguments) for c in buffer.calls()] == [
        ("a", "read_file", '{"path":"x"}'),
        ("b", "run", "{}"),
    ]
    assert deltas[-2:] == [Usage(5, 7), Finish("tool_calls")]


def test_the_deltas_do_not_depend_on_where_the_network_cuts() -> None:
    """A stream cut in two at any byte, or into single bytes, gives the same deltas as in one piece."""
    whole = _read(RICH)
    for at in range(len(RICH)):
        assert _read(RICH[:at], RICH[at:]) == whole
    assert _read(*(RICH[i : i + 1] for i in range(len(RICH)))) == whole


def test_a_json_answer_is_the_same_at_every_cut() -> None:
    """A whole completion instead of a stream is read as well, wherever the network cuts it."""
    body = msgspec.json.encode(
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "content": "\u00e9",
                        "tool_calls": [_call(None, "a", "run", "{}")],
                    },
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        }
    )
    whole = [TextDelta("\u00e9"), ToolCallDelta(0, "a", "run", "{}"), Usage(1, 2), Finish("stop")]
    for at in range(len(body)):
        assert _read(b"\n " + body[:at], body[at:]) == whole


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (text_answer("a", "b"), "ab"),
        (event(chunk("a")) + event(chunk(finish="stop")), "a"),
        (event(chunk("a")) + b"data: [DONE]", "a"),
        ((event(chunk("a")) + event(chunk(finish="stop"))).rstrip(), "a"),
        (chunks_of(chunk("a", error=None), {"choices": None}, {"id": "x"}, chunk("", finish="")), "a"),
        (
            chunks_of(chunk(), {"choices": [{"delta": {"content": [{"type": "text", "text": "p"}, {"type": "x"}]}}]}),
            "p",
        ),
        (chunks_of({"choices": [{"delta": {"content": None, "refusal": "no"}}]}), "no"),
        (chunks_of({"choices": [{"message": {"content": "m"}}]}), "m"),
        (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\ndata: [DONE]\n\n', "\ufffd"),
        (rb'data: {"choices":[{"delta":{"content":"\ud83d"}}]}' + b"\n\ndata: [DONE]\n\n", "\ufffd"),
        (b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":NaN}}\n\ndata: [DONE]\n\n', "a"),
    ],
)
def test_odd_but_whole_answers_are_taken(body: bytes, text: str) -> None:
    """What real servers send beside the specification is understood, and every answer ends with one Finish."""
    deltas = _read(body)
    assert _text_of(deltas) == text
    assert deltas[-1] == Finish("stop")
    assert sum(isinstance(delta, Finish) for delta in deltas) == 1


def test_split_halves_of_arguments_join_per_call() -> None:
    """A character cut in half in the arguments of one call is not joined with those of another."""
    body = b"".join(
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":%d,"function":{"arguments":"%s"}}]}}]}\n\n' % part
        for part in ((0, rb"\ud83d"), (1, rb"\ud83d"), (0, rb"\ude00"), (1, b"x"))
    )
    pieces = {0: "", 1: ""}
    for delta in _read(body + b"data: [DONE]\n\n"):
        if isinstance(delta, ToolCallDelta):
            pieces[delta.index] += delta.arguments
    assert pieces == {0: "\U0001f600", 1: "\ufffdx"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "model_garbage"),
        (b"no healthy upstream", "model_garbage"),
        (b"<!doctype html><html><body>Sign in</body></html>", "model_garbage"),
        (b'{"choices": [{"message": {"content": "ha', "model_garbage"),
        (b'{"hello": "world"}', "model_garbage"),
        (b"data: {half\n\n", "model_garbage"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "model_garbage"),
        (b'data: {"choices": {"a": 1}}\n\n', "model_garbage"),
        (b"data: " + b"x" * (MAX_EVENT_BYTES + 1), "model_garbage"),
        (b"data: x\n" * (MAX_EVENT_BYTES // 8 + 1) + b"\n", "model_garbage"),
        (b'{"choices": "' + b"x" * MAX_EVENT_BYTES, "model_garbage"),
        (event(chunk("a")), "model_disconnected"),
        (event(chunk("a")) + b'data: {"choi', "model_disconnected"),
        (event(chunk("a")) + event({"error": {"message": "x", "code": 503}}), "model_overloaded"),
        (event({"error": {"message": "x", "code": "429"}}), "model_rate_limited"),
        (event({"error": {"message": "x", "type": "rate_limit_exceeded"}}), "model_rate_limited"),
        (event({"error": {"message": "x", "type": "authentication_error"}}), "model_credentials"),
        (event({"error": {"message": "x", "type": "invalid_request_error"}}), "model_refused"),
        (event({"error": "worker died"}), "model_failed"),
        (b'{"error": {"message": "x", "type": "overloaded_error"}}', "model_overloaded"),
    ],
)
def test_answers_that_are_not_whole_end_with_an_error(body: bytes, code: str) -> None:
    """Garbage, a cut answer and an error inside the stream each have their code, in one block and in many."""
    for blocks in ([body], [body[i : i + 65_536] for i in range(0, len(body), 65_536)]):
        with pytest.raises(ModelError) as caught:
            _read(*blocks)
        assert caught.value.code == code


def test_deltas_before_an_error_are_kept() -> None:
    """What the model said before the error arrives, also when both came in one block."""
    reader = AnswerReader()
    assert reader.feed(event(chunk("before")) + event({"error": {"message": "boom"}})) == [TextDelta("before")]
    assert reader.done
    with pytest.raises(ModelError, match=r"The model provider failed\. It said: boom"):
        reader.end()
