from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.agent.providers import (
    ChatMessage,
    Delta,
    Finish,
    Image,
    ModelClient,
    ModelError,
    ModelRequest,
    ReasoningPart,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
    create_client,
)
from codelab.agent.providers.anthropic import AnthropicClient
from codelab.agent.providers.anthropic_request import encode_request
from tests.agent.providers.conftest import API_KEY
from tests.agent.providers.messages_api import answer, check_request, frame, frames, text_block
from tests.agent.providers.upstream import CUT, STALL, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CACHED = {"type": "ephemeral"}
REQUEST = ModelRequest("claude-x", (ChatMessage("user", "hi"),))
HELLO: list[Delta] = [Usage(25, 1), TextDelta("hel"), TextDelta("lo"), Usage(25, 9), Finish("stop")]


@pytest.fixture
async def claude(upstream: Upstream) -> AsyncIterator[AnthropicClient]:
    """A client of ``upstream`` with a key."""
    made = AnthropicClient(upstream.url, API_KEY, connect_timeout=5, idle_timeout=30)
    yield made
    await made.close()


async def _collect(client: ModelClient, request: ModelRequest = REQUEST) -> list[Delta]:
    return [delta async for delta in client.stream(request)]


def encode(request: ModelRequest, **options: Any) -> dict[str, Any]:
    """Write a request and check that the API would take it."""
    body: dict[str, Any] = msgspec.json.decode(encode_request(request, **options))
    check_request(body)
    return body


async def test_an_answer_is_streamed(upstream: Upstream, claude: AnthropicClient) -> None:
    """The request has the key, the version and a limit of its own header and member; the answer comes as deltas."""
    upstream.play(answer(text_block(0, "hel", "lo")))
    assert await _collect(claude) == HELLO
    request = upstream.requests[0]
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == API_KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in request.headers
    assert upstream.bodies == [
        {
            "model": "claude-x",
            "max_tokens": 8192,
            "stream": True,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": CACHED}]}],
        }
    ]


async def test_words_arrive_while_the_answer_is_written(upstream: Upstream, claude: AnthropicClient) -> None:
    """The first word is there although the rest never comes, and closing the stream closes the connection."""
    upstream.play(*frames(text_block(0, "hel"))[:4], STALL)
    stream = claude.stream(REQUEST)
    assert await anext(stream) == Usage(25, 1)
    assert await anext(stream) == TextDelta("hel")
    await stream.aclose()
    await asyncio.wait_for(upstream.closed_by_client.wait(), 10)


async def test_one_connection_serves_one_call_after_another(upstream: Upstream, claude: AnthropicClient) -> None:
    """A complete answer leaves its connection for the next call."""
    for _ in range(3):
        upstream.play(answer(text_block(0, "hel", "lo")))
        assert await _collect(claude) == HELLO
    assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "model_refused"),
        (401, "authentication_error", "model_credentials"),
        (403, "permission_error", "model_credentials"),
        (404, "not_found_error", "model_refused"),
        (413, "request_too_large", "model_refused"),
        (429, "rate_limit_error", "model_rate_limited"),
        (500, "api_error", "model_failed"),
        (529, "overloaded_error", "model_overloaded"),
    ],
)
async def test_refusals_have_a_code_and_tell_no_secret(
    upstream: Upstream, claude: AnthropicClient, status: int, kind: str, code: str
) -> None:
    """Each status has its code, Retry-After is read, and neither key nor address is quoted."""
    said = {"type": "error", "error": {"type": kind, "message": f"no {API_KEY} at {upstream.url}"}}
    upstream.play(msgspec.json.encode(said), status=status, headers={"retry-after": "7"})
    with pytest.raises(ModelError) as caught:
        await _collect(claude)
    error = caught.value

    assert (error.code, error.status, error.retry_after) == (code, status, 7.0)
    assert error.__context__ is None
    assert not [secret for secret in (API_KEY, "127.0.0.1", "://") if secret in str(error) + repr(vars(error))]


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ((*frames(text_block(0, "hel"))[:4], CUT), "model_disconnected"),
        ((CUT,), "model_disconnected"),
        ((*frames(text_block(0, "hel"))[:4], STALL), "model_timeout"),
        ((STALL,), "model_timeout"),
        ((*frames(text_block(0, "hel"))[:4], b'data: {"type": "content_block_del\n\n'), "model_garbage"),
        ((*frames(text_block(0, "hel"))[:4], frame("error", error={"type": "overloaded_error"})), "model_overloaded"),
    ],
)
async def test_answers_that_break_off(upstream: Upstream, pieces: tuple[Any, ...], code: str) -> None:
    """A reset, a silence, half a JSON and an error event in the middle end the call with their code."""
    upstream.play(*pieces)
    client = AnthropicClient(upstream.url, API_KEY, idle_timeout=0.5)
    with pytest.raises(ModelError) as caught:
        await _collect(client)
    await client.close()

    assert caught.value.code == code


async def test_models_without_a_temperature_are_remembered(upstream: Upstream, claude: AnthropicClient) -> None:
    """A server that refuses the temperature is asked again without it, and from then on never with it."""
    said = b'{"type": "error", "error": {"message": "temperature: is deprecated for this model"}}'
    upstream.play(said, status=400)
    for _ in range(2):
        upstream.play(answer(text_block(0, "hel", "lo")))
        assert await _collect(claude, msgspec.structs.replace(REQUEST, temperature=0.2)) == HELLO
    assert ["temperature" in body for body in upstream.bodies] == [True, False, False]


def test_the_transcript_has_the_form_of_the_messages_api() -> None:
    """Roles alternate, results come first, ids and names are mended, and nothing is empty."""
    body = encode(
        ModelRequest(
            "m",
            (
                ChatMessage("system", "be brief"),
                ChatMessage("user", "\0 first"),
                ChatMessage("user", "second"),
                ChatMessage(
                    "assistant", None, (ToolCall("call.1", "fs.read", '{"x": 1}'), ToolCall("call:1", "f", '{"half'))
                ),
                ChatMessage("tool", "one", tool_call_id="call.1", name="f"),
                ChatMessage("tool", "Error: no", tool_call_id="call:1"),
                ChatMessage("user", "third"),
                ChatMessage("assistant", ""),
                ChatMessage("user", "fourth"),
            ),
            (ToolSpec("f", "does f", {"type": "object"}), ToolSpec("g", "does g", {"type": "object"})),
            0.5,
            4000,
        )
    )

    def text(value: str, **more: Any) -> dict[str, Any]:
        return {"type": "text", "text": value} | more

    assert body["system"] == [text("be brief", cache_control=CACHED)]
    assert body["messages"] == [
        {"role": "user", "content": [text("\ufffd first"), text("second", cache_control=CACHED)]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "fs_read", "input": {"x": 1}},
                {"type": "tool_use", "id": "call_1_2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "call_1_2", "content": "Error: no", "is_error": True},
                text("third"),
                text("fourth", cache_control=CACHED),
            ],
        },
    ]
    assert body["tools"] == [
        {"name": "f", "description": "does f", "input_schema": {"type": "object"}},
        {"name": "g", "description": "does g", "input_schema": {"type": "object"}, "cache_control": CACHED},
    ]
    assert (body["temperature"], body["max_tokens"]) == (0.5, 4000)


def test_thinking_goes_back_where_it_stood() -> None:
    """Each block is where it was between the words, with its signature; what has none is left out."""
    thought = (
        ReasoningPart("plan", signature="s1"),
        ReasoningPart(redacted="opaque", at=0),
        ReasoningPart("again", signature="s2", at=6),
        ReasoningPart("of another provider", at=6),
    )
    messages = (
        ChatMessage("user", "go"),
        ChatMessage("assistant", "First.Second.", (ToolCall("c", "f", "{}"),), reasoning=thought),
        ChatMessage("tool", "done", tool_call_id="c"),
    )
    blocks = encode(ModelRequest("m", messages))["messages"][1]["content"]

    assert blocks == [
        {"type": "thinking", "thinking": "plan", "signature": "s1"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "First."},
        {"type": "thinking", "thinking": "again", "signature": "s2"},
        {"type": "text", "text": "Second."},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]


def test_how_thinking_is_asked_for() -> None:
    """Nothing, adaptive, off, or a budget below the limit; a budget rests while a foreign answer's tools are run."""
    warm = ModelRequest("m", (ChatMessage("user", "go"),), temperature=0.2, max_output_tokens=3000)
    foreign = ModelRequest(
        "m",
        (
            ChatMessage("user", "go"),
            ChatMessage("assistant", "a", (ToolCall("c", "f", "{}"),)),
            ChatMessage("tool", "done", tool_call_id="c"),
        ),
    )

    assert "thinking" not in encode(warm)
    assert encode(warm)["temperature"] == 0.2
    assert encode(warm, thinking="adaptive")["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert "temperature" not in encode(warm, thinking="adaptive")
    assert encode(warm, thinking="off")["thinking"] == {"type": "disabled"}
    budget = encode(warm, thinking="4000")
    assert budget["thinking"] == {"type": "enabled", "budget_tokens": 4000}
    assert budget["max_tokens"] == 5024
    assert "thinking" not in encode(foreign, thinking="4000")


def test_images_are_data() -> None:
    """An image goes as base64 before the text that is about it."""
    body = encode(ModelRequest("m", (ChatMessage("user", "what?", images=(Image("image/png", "aGk="),)),)))

    assert body["messages"][0]["content"][0] == {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
    }


def test_the_provider_is_chosen_by_name() -> None:
    """``create_client`` makes the client of the provider that is named."""
    assert create_client("http://h/v1", "k", provider="anthropic").name == "anthropic"
    assert create_client("http://h/v1", "k").name == "openai"
