from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from codelab.connections import JOINED, Watch, uvicorn_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import Receive, Scope, Send


def _scope(abort: Callable[[], None]) -> Any:
    return {"type": "websocket", "extensions": {"codelab.abort": abort}}


async def test_a_piece_that_is_not_accepted_ends_the_connection_whoever_else_sends() -> None:
    """Two tasks send on one socket; that a piece of one was accepted does not free the other."""
    aborted = asyncio.Event()
    watch = Watch(_scope(aborted.set), 0.05)
    stuck = asyncio.create_task(watch.over(asyncio.Event().wait()))  # type: ignore[arg-type]  # its result is nobody's
    await asyncio.sleep(0)

    await watch.over(asyncio.sleep(0))

    async with asyncio.timeout(30):
        await aborted.wait()
    stuck.cancel()
    watch.stop()


class _Transport(asyncio.Transport):
    """A transport that keeps what it is given; nothing tells so well how often it is."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


async def _answer(*pieces: bytes) -> list[bytes]:
    """Serve one request with these pieces; return what was written to its connection."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    options: Any = uvicorn_options(SimpleNamespace(state=SimpleNamespace(max_body=1)))  # type: ignore[arg-type]  # all it reads
    config = uvicorn.Config(app, **options, lifespan="off", log_config=None)
    config.load()
    protocol: Any = config.http_protocol_class
    transport = _Transport()
    connection = protocol(config=config, server_state=ServerState(), app_state={})
    connection.connection_made(transport)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(30):
        await transport.closed.wait()
    return transport.writes


async def test_an_answer_is_one_write() -> None:
    """The head and the body of a small answer go out together, all of it before the connection is closed."""
    (written,) = await _answer(b"small")

    assert written.startswith(b"HTTP/1.1 200")
    assert written.endswith(b"5\r\nsmall\r\n0\r\n\r\n")


async def test_a_large_answer_does_not_pile_up() -> None:
    """What is much goes to the transport at once, which tells when its peer does not read."""
    large = b"x" * (JOINED + 1)
    written = await _answer(large, large, b"small")

    assert [len(data) > JOINED for data in written] == [True, True, False]
