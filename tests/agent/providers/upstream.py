"""A model server whose every byte the test decides."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("Upstream", "chunk", "chunks_of", "event", "run_upstream", "text_answer", "thought")

CUT = object()  # the connection is torn down here
SILENT = object()  # not even a status comes
STALL = object()  # nothing more comes, and the connection stays open


class Upstream:
    """Answer each request with the next script: a status, headers, and pieces of a body."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []
        self.peers: set[Any] = set()
        self.closed_by_client = asyncio.Event()
        self.otherwise: Callable[[dict[str, Any]], tuple[Any, ...]] | None = None
        self._scripts: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = []

    def play(self, *pieces: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Add a script of byte pieces; an ``asyncio.Event`` is waited for, ``CUT`` and ``STALL`` may end it."""
        self._scripts.append(self._script(pieces, status, headers))

    @staticmethod
    def _script(
        pieces: tuple[Any, ...], status: int = 200, headers: dict[str, str] | None = None
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def script(request: web.Request) -> web.StreamResponse:
            if SILENT in pieces:
                await asyncio.Event().wait()
            response = web.StreamResponse(
                status=status, headers={"Content-Type": "text/event-stream", **(headers or {})}
            )
            await response.prepare(request)
            for piece in pieces:
                if piece is CUT:
                    assert request.transport is not None
                    request.transport.abort()
                elif piece is STALL:
                    await asyncio.Event().wait()
                elif isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    await response.write(piece)
            return response

        return script

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Play the next script, or what ``otherwise`` makes of the request's body when there is none."""
        self.requests.append(request)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.bodies.append(msgspec.json.decode(await request.read()))
        try:
            if not self._scripts and self.otherwise is not None:
                return await self._script(self.otherwise(self.bodies[-1]))(request)
            return await self._scripts.pop(0)(request)
        except asyncio.CancelledError:
            self.closed_by_client.set()
            raise


@asynccontextmanager
async def run_upstream() -> AsyncIterator[Upstream]:
    """Serve an ``Upstream`` on a free port of the loopback interface."""
    upstream = Upstream()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        await runner.cleanup()


def chunk(
    content: str | None = None,
    *,
    tool_calls: list[dict[str, Any]] | None = None,
    finish: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Make a chunk as OpenAI does."""
    delta: dict[str, Any] = {}
    if content is not None:
        delta["content"] = content
    if tool_calls is not None:
        delta["tool_calls"] = tool_calls
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def event(value: Any) -> bytes:
    """Make a Server-Sent Event of a JSON value."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def thought(text: str) -> bytes:
    """Make one piece of reasoning, as vLLM and OpenRouter do."""
    return event({"choices": [{"index": 0, "delta": {"reasoning": text}}]})


def chunks_of(*values: Any) -> bytes:
    """Make a whole stream of chunks, with its end."""
    return b"".join(map(event, values)) + b"data: [DONE]\n\n"


def text_answer(*words: str) -> bytes:
    """Make a whole stream that says ``words``."""
    return chunks_of(*map(chunk, words), chunk(finish="stop"))
