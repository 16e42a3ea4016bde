from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.agent.providers import (
    ChatMessage,
    Delta,
    Finish,
    ModelClient,
    ModelError,
    ModelRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
    create_client,
)
from codelab.agent.providers.openai import OpenAIClient, build_endpoint
from tests.agent.providers.conftest import API_KEY
from tests.agent.providers.upstream import CUT, STALL, Upstream, chunk, chunks_of, event, text_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = ModelRequest("gpt-x", (ChatMessage("user", "hi"),))
HELLO: list[Delta] = [TextDelta("hel"), TextDelta("lo"), Finish("stop")]


async def _collect(client: ModelClient, request: ModelRequest = REQUEST) -> list[Delta]:
    return [delta async for delta in client.stream(request)]


async def fail(client: ModelClient, *, secrets: tuple[str, ...] = ()) -> ModelError:
    """Return the error of a call, after a search for addresses and keys in all that a log could show of it."""
    with pytest.raises(ModelError) as caught:
        await _collect(client)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = "".join(traceback.format_exception_only(error)) + repr((error, vars(error), client))
    for secret in ("127.0.0.1", "://", "localhost", API_KEY, API_KEY[3:], "<", *secrets):
        assert secret not in shown
    return error


@contextlib.asynccontextmanager
async def raw_server(*blocks: bytes, stall: bool = False) -> AsyncIterator[int]:
    """Serve bytes that need not be HTTP, and yield the port."""
    release = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(65_536)
            for block in blocks:
                writer.write(block)
                await writer.drain()
            if stall:
                await release.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        release.set()
        server.close()
        await server.wait_closed()


async def test_an_answer_is_streamed(upstream: Upstream, client: OpenAIClient) -> None:
    """The request asks for a stream with usage and sends the key; the answer comes as deltas."""
    upstream.play(
        chunks_of(
            chunk("hel"), chunk("lo"), chunk(finish="stop"), {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        )
    )
    assert await _collect(client) == [TextDelta("hel"), TextDelta("lo"), Usage(3, 2), Finish("stop")]
    assert upstream.requests[0].path == "/v1/chat/completions"
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {API_KEY}"
    assert upstream.bodies == [
        {
            "model": "gpt-x",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_the_transcript_has_openais_form(upstream: Upstream, client: OpenAIClient) -> None:
    """Tools, tool calls and their results go out as OpenAI writes them, and no message can make the request invalid."""
    upstream.play(text_answer("ok"))
    request = ModelRequest(
        "m",
        (
            ChatMessage("system", "be brief"),
            ChatMessage("user", "\ud800\0", name="ann"),
            ChatMessage("assistant", None, (ToolCall("c1", "f", '{"x": 1}'), ToolCall("c2", "f", '{"half'))),
            ChatMessage("tool", "one", tool_call_id="c1", name="f"),
            ChatMessage("tool", None, tool_call_id="c2"),
            ChatMessage("assistant", "text", (ToolCall("c3", "f", "[]"),)),
        ),
        (ToolSpec("f", "does f", {"type": "object", "properties": {}}),),
        0.5,
    )
    await _collect(client, request)
    body = upstream.bodies[0]

    def call(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}

    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "\ufffd\ufffd", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call("c1", '{"x": 1}'), call("c2", "{}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "assistant", "content": "text", "tool_calls": [call("c3", "{}")]},
    ]
    parameters = {"type": "object", "properties": {}}
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "does f", "parameters": parameters}}
    ]
    assert body["temperature"] == 0.5


async def test_a_long_transcript_is_sent(upstream: Upstream, client: OpenAIClient) -> None:
    """A request of several MiB arrives whole."""
    upstream.play(text_answer("ok"))
    await _collect(client, ModelRequest("m", (ChatMessage("user", "x" * 3 * 2**20),)))
    assert len(upstream.bodies[0]["messages"][0]["content"]) == 3 * 2**20


async def test_deltas_arrive_while_the_answer_is_written(upstream: Upstream, client: OpenAIClient) -> None:
    """The first words are there although the rest never comes, and closing the generator closes the connection."""
    upstream.play(event(chunk("hel"))[:20], event(chunk("hel"))[20:], STALL)
    stream = client.stream(REQUEST)
    assert await anext(stream) == TextDelta("hel")
    await stream.aclose()
    await asyncio.wait_for(upstream.closed_by_client.wait(), 10)


async def test_cancelling_the_waiting_task_closes_the_connection(upstream: Upstream, client: OpenAIClient) -> None:
    """A task that waits for the next delta can be cancelled, and the upstream call ends with it."""
    upstream.play(event(chunk("hel")), STALL)
    stream = client.stream(REQUEST)
    assert await anext(stream) == TextDelta("hel")
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(upstream.closed_by_client.wait(), 10)


async def test_one_connection_serves_one_call_after_another(upstream: Upstream, client: OpenAIClient) -> None:
    """A complete answer leaves its connection for the next call."""
    for _ in range(3):
        upstream.play(text_answer("hel", "lo"))
        assert await _collect(client) == HELLO
    assert len(upstream.peers) == 1


async def test_many_calls_run_at_once(upstream: Upstream, client: OpenAIClient) -> None:
    """No pool makes a turn wait for another: 150 calls are open at the same time."""
    for _ in range(150):
        upstream.play(event(chunk("a")), STALL)
    streams = [client.stream(REQUEST) for _ in range(150)]
    assert await asyncio.wait_for(asyncio.gather(*map(anext, streams)), 30) == [TextDelta("a")] * 150
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize("status", [400, 422])
async def test_servers_without_stream_options_are_remembered(
    upstream: Upstream, client: OpenAIClient, status: int
) -> None:
    """A server that refuses ``stream_options`` is asked again without it, and from then on never with it."""
    upstream.play(b'{"error": {"message": "Unrecognized request argument: stream_options"}}', status=status)
    upstream.play(text_answer("hel", "lo"))
    upstream.play(text_answer("hel", "lo"))
    assert await _collect(client) == HELLO
    assert await _collect(client) == HELLO
    assert ["stream_options" in body for body in upstream.bodies] == [True, False, False]


async def test_a_server_that_does_not_stream_is_understood(upstream: Upstream, client: OpenAIClient) -> None:
    """One whole JSON completion is an answer, too."""
    completion = {"choices": [{"message": {"content": "hello"}, "finish_reason": "length"}]}
    upstream.play(msgspec.json.encode(completion), headers={"Content-Type": "application/json"})
    assert await _collect(client) == [TextDelta("hello"), Finish("length")]


@pytest.mark.parametrize("end", [CUT, STALL])
async def test_an_answer_that_lost_only_its_end_is_complete(upstream: Upstream, end: object) -> None:
    """Once the model has finished, neither a cut nor a silent connection spoils the answer."""
    upstream.play(event(chunk("hel")) + event(chunk("lo")) + event(chunk(finish="stop")), end)
    client = OpenAIClient(upstream.url, API_KEY, idle_timeout=1)
    assert await _collect(client) == HELLO
    await client.close()


HTML = b"<html><head><title>502</title></head><body>nginx at http://10.0.0.7/</body></html>"
LEAKY = msgspec.json.encode(
    {
        "error": {
            "message": f"bad thing at http://gw.internal.corp:4000/x key {API_KEY} host=10.1.2.3 for you",
            "code": "x",
        }
    }
)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, LEAKY, "model_refused", "It said: bad thing at […] key […] […] for you"),
        (400, b"", "model_refused", "The model provider refused the request."),
        (401, LEAKY, "model_credentials", "The model provider did not accept the API key."),
        (403, LEAKY, "model_credentials", "The model provider does not let this API key use the model."),
        (404, b'{"error": {"message": "The model `gpt-9` does not exist"}}', "model_refused", "`gpt-9` does not exist"),
        (408, b"", "model_timeout", "The model provider did not answer in time."),
        (409, b'{"detail": "conflict"}', "model_refused", "It said: conflict"),
        (413, HTML, "model_refused", "The conversation is too long for the model provider."),
        (422, b'{"detail": [{"loc": ["body"], "msg": "Field required"}]}', "model_refused", "It said: Field required"),
        (429, b'{"error": "slow down"}', "model_rate_limited", "It said: slow down"),
        (500, b"Internal Server Error", "model_failed", "It said: Internal Server Error"),
        (502, HTML, "model_failed", "The model provider failed."),
        (503, b'{"message": "loading"}', "model_overloaded", "It said: loading"),
        (504, b"\xff\xfe", "model_failed", "The model provider failed."),
        (529, b'{"error": {"type": "overloaded_error", "message": "Overloaded"}}', "model_overloaded", "Overloaded"),
        (302, b"", "model_refused", "The model provider refused the request."),
        (200, HTML, "model_garbage", "answered with a web page"),
    ],
)
async def test_each_refusal_has_its_code(
    upstream: Upstream, client: OpenAIClient, status: int, body: bytes, code: str, message: str
) -> None:
    """Every status becomes a sentence with a stable code, without addresses, keys and markup of the server."""
    headers = {"Location": "http://elsewhere.example/"} if status == 302 else None
    upstream.play(body, status=status, headers=headers)
    error = await fail(client, secrets=("internal.corp", "10.1.2.3", "10.0.0.7", "elsewhere"))
    assert error.code == code
    assert message in error.message
    assert error.status == (None if status == 200 else status)
    assert error.retry_after is None
    assert len(upstream.requests) == 1


async def test_the_wish_for_a_pause_is_passed_on(upstream: Upstream, client: OpenAIClient) -> None:
    """``Retry-After`` of a refusal is in the error, in seconds."""
    upstream.play(b"{}", status=429, headers={"Retry-After": "7"})
    assert (await fail(client)).retry_after == 7.0


async def test_a_cut_connection_is_told_from_silence(upstream: Upstream) -> None:
    """A connection that is cut and one that goes silent are different errors, and the deltas before them arrive."""
    client = OpenAIClient(upstream.url, API_KEY, idle_timeout=1)
    for end, code in ((CUT, "model_disconnected"), (STALL, "model_timeout")):
        upstream.play(event(chunk("hel")), end)
        stream = client.stream(REQUEST)
        assert await anext(stream) == TextDelta("hel")
        with pytest.raises(ModelError) as caught:
            await anext(stream)
        assert caught.value.code == code
    await client.close()


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ((b"SSH-2.0-OpenSSH_9.6\r\n",), "model_garbage"),
        ((), "model_disconnected"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b'{"choices": [',), "model_disconnected"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",), "model_garbage"),
        ((b"HTTP/1.1 500 Oops\r\nContent-Length: 50\r\n\r\nhalf",), "model_failed"),
    ],
)
async def test_servers_that_break_http(blocks: tuple[bytes, ...], code: str) -> None:
    """Bytes that are not HTTP, or not all of it, become errors like any other."""
    async with raw_server(*blocks) as port:
        client = OpenAIClient(f"http://127.0.0.1:{port}/v1", API_KEY)
        assert (await fail(client)).code == code
        await client.close()


async def test_a_server_that_never_answers(upstream: Upstream) -> None:
    """Silence before the first byte is a timeout, and a connection that never opens is unreachable."""
    async with raw_server(stall=True) as port:
        client = OpenAIClient(f"http://127.0.0.1:{port}", API_KEY, idle_timeout=1)
        assert (await fail(client)).code == "model_timeout"
        await client.close()
        # A TLS handshake that is never answered keeps the connection from opening.
        client = OpenAIClient(f"https://127.0.0.1:{port}", API_KEY, connect_timeout=1)
        assert (await fail(client)).code == "model_unreachable"
        await client.close()


async def test_nobody_listens() -> None:
    """A refused connection is unreachable."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = OpenAIClient(f"http://127.0.0.1:{unused.getsockname()[1]}", API_KEY)
        assert (await fail(client)).code == "model_unreachable"
    await client.close()


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name without an address is unreachable, and the sentence says that it is the name."""

    async def getaddrinfo(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    client = OpenAIClient("http://models.invalid", API_KEY)
    error = await fail(client, secrets=("models.invalid",))
    assert error.code == "model_unreachable"
    assert "could not be resolved" in error.message
    await client.close()


async def test_tls_that_cannot_be_trusted(upstream: Upstream) -> None:
    """A server that does not speak TLS where the address says https is unreachable, and the sentence says TLS."""
    client = OpenAIClient(upstream.url.replace("http:", "https:"), API_KEY)
    error = await fail(client)
    assert error.code == "model_unreachable"
    assert "TLS" in error.message
    await client.close()


async def test_close_ends_running_calls(upstream: Upstream, client: OpenAIClient) -> None:
    """Closing the client ends its calls with an error instead of leaving them waiting; closing twice is harmless."""
    upstream.play(event(chunk("hel")), STALL)
    stream = client.stream(REQUEST)
    await anext(stream)
    await client.close()
    await client.close()
    with pytest.raises(ModelError) as caught:
        await anext(stream)
    assert caught.value.code == "model_disconnected"


@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("http://h/", "http://h/v1/chat/completions"),
        ("http://h/v1", "http://h/v1/chat/completions"),
        (" https://h/v1/ ", "https://h/v1/chat/completions"),
        ("https://h/openai/v1", "https://h/openai/v1/chat/completions"),
        ("https://h/api", "https://h/api/v1/chat/completions"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
        ("https://h/v1beta/openai/chat/completions", "https://h/v1beta/openai/chat/completions"),
        ("https://h/x?api-version=1", "https://h/x/v1/chat/completions?api-version=1"),
    ],
)
def test_addresses_of_every_shape(base: str, endpoint: str) -> None:
    """The base address works with and without its version and slash."""
    assert build_endpoint(base) == endpoint


@pytest.mark.parametrize("base", ["", "h/v1", "ftp://h", "http://", "http://h:99999", "http://[::1", "file:///x"])
def test_addresses_that_are_none(base: str) -> None:
    """A base that is no http address is refused when the client is made."""
    with pytest.raises(ValueError, match="must look like https://host/v1"):
        create_client(base or "x", None)


@pytest.mark.parametrize(("url", "key"), [("http://h", "sk-a\nb"), ("http://h", "sk-\u00e9"), ("http://u:p@h", "sk-a")])
def test_keys_that_cannot_be_sent(url: str, key: str) -> None:
    """A key that no header can carry is refused when the client is made, without repeating it."""
    with pytest.raises(ValueError, match="API key") as caught:
        create_client(url, key)
    assert "sk-" not in str(caught.value)


async def test_a_client_without_a_key_sends_none(upstream: Upstream) -> None:
    """Local servers need no key: no Authorization header is sent."""
    upstream.play(text_answer("hel", "lo"))
    client = create_client(upstream.url, None)
    assert await _collect(client) == HELLO
    assert "Authorization" not in upstream.requests[0].headers
    await client.close()
