"""The event log as Server-Sent Events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from litestar import Response

from codelab.agent.subscription import End
from codelab.connections import Watch
from codelab.errors import BadRequest
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from litestar.response.base import ASGIResponse
    from litestar.types import Message, Receive, Scope, Send

    from codelab.agent.repository.events import Event
    from codelab.agent.subscription import Subscription

__all__ = ("ENDS", "MEDIA_TYPE", "EventStream", "read_cursor")

#: Seconds between two comments on a silent stream, so that proxies keep it open.
KEEP_ALIVE = 15.0
#: Milliseconds after which a browser reconnects.
RETRY_MS = 1000
MEDIA_TYPE = "text/event-stream"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
LATEST = "latest"
#: Bytes that are handed to the connection at once, unless one event is larger.
PIECE = 64 * 1024
#: What a client is told at the end of its stream.
ENDS = {
    End.DELETED: "The session was deleted.",
    End.STOPPING: "The server is stopping; come back with your cursor.",
    End.SLOW: "You read too slowly; come back with your cursor.",
    End.EXPIRED: "The access token has expired; come back with a new one and your cursor.",
    End.REVOKED: "The access token is no longer valid.",
}


def read_cursor(after: str | None, last_event_id: str | None) -> int | None:
    """Read the cursor of a stream; ``after`` wins. None asks for what is new only.

    Raises:
        BadRequest: it is no whole number from 0.
    """
    if after == LATEST:
        return None
    for value, field in ((after, "after"), (last_event_id, "Last-Event-ID")):
        if not value:
            continue
        if not (value.isascii() and value.isdigit() and len(value) < 19):
            raise BadRequest(f"{field}: must be a whole number from 0, or 'latest'", field=field)
        return int(value)
    return 0


class EventStream(Response[None]):
    """Answer with batches of events, for as long as they come and the reader lives.

    ``attach`` knows the reader while it reads, ``follow`` gives the batches for a subscription. A client that does not
    take what is sent within ``send_timeout`` seconds is dropped.
    """

    def __init__(
        self,
        attach: Callable[[], AbstractContextManager[Subscription]],
        follow: Callable[..., AsyncGenerator[list[Event], None]],
        *,
        send_timeout: float,
    ) -> None:
        super().__init__(None, media_type=MEDIA_TYPE)
        self._attach = attach
        self._follow = follow
        self._send_timeout = send_timeout

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """Return what carries the stream: any ASGI application will do."""
        return cast("ASGIResponse", self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the stream ends or the client is gone; both in this task, since most streams only wait."""
        writer = asyncio.current_task()
        assert writer is not None
        written = False

        def stop(_gone: object) -> None:
            if not written:
                writer.cancel()

        await send(cast("Message", {"type": "http.response.start", "status": 200, "headers": HEADERS}))
        gone = asyncio.create_task(_until_gone(receive))
        gone.add_done_callback(stop)
        try:
            await self._write(scope, send)
        except asyncio.CancelledError:
            if not gone.done() or writer.uncancel():
                raise  # the server ends this, not the client
        finally:
            written = True
            gone.cancel()

    async def _write(self, scope: Scope, send: Send) -> None:
        watch = Watch(scope, self._send_timeout)

        async def write(piece: bytes, *, more: bool = True) -> None:
            await watch.over(send({"type": "http.response.body", "body": piece, "more_body": more}))

        try:
            with self._attach() as subscription:
                batches = self._follow(keep_alive=KEEP_ALIVE, subscription=subscription)
                async with aclosing(render(batches)) as pieces:
                    async for piece in pieces:
                        await write(piece)
            if subscription.end is not None:
                await write(_last_words(subscription.end))
            await write(b"", more=False)
        finally:
            watch.stop()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def render(batches: AsyncIterator[list[Event]]) -> AsyncGenerator[bytes, None]:
    """Write batches of events as pieces of a stream."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    async with aclosing(cast("Any", batches)):
        async for batch in batches:
            if not batch:
                yield b": keep-alive\n\n"
            for piece in _pieces(batch):
                yield piece


def _pieces(batch: Iterable[Event]) -> Iterator[bytes]:
    frames: list[bytes] = []
    size = 0
    for event in batch:
        frames.append(f"id: {event.seq}\nevent: {event.type}\ndata: {event.data}\n\n".encode())
        size += len(frames[-1])
        if size >= PIECE:
            yield b"".join(frames)
            frames, size = [], 0
    if frames:
        yield b"".join(frames)


def _last_words(end: End) -> bytes:
    # Without an id: the client's cursor stays where it is.
    return f"event: stream.end\ndata: {canonical_json({'reason': end.value, 'detail': ENDS[end]})}\n\n".encode()
