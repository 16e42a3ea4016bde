"""How uvicorn carries connections here: few writes, the size of WebSocket messages, dropping who does not read.

ASGI cannot abort a connection: an application that returns leaves what it sent in a buffer that the peer never empties.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport
    from collections.abc import Awaitable

    from litestar import Litestar
    from litestar.types import Receive, Scope, Send

__all__ = ("Watch", "abort", "uvicorn_options")

_ABORT = "codelab.abort"
#: Bytes that are written in one turn of the loop before they go to the transport.
JOINED = 64 * 1024


class _Joining:
    """A transport that writes once what is written to it in one turn of the loop.

    uvicorn writes the head of an answer and its body one after the other; each write wakes the peer, and costs as much
    as all else that uvicorn does for a request.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write at the end of this turn, or now when it is much: the transport has to know what it holds."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting += data
        if len(self._waiting) > JOINED:
            self._flush()

    def close(self) -> None:
        """Close once everything is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        if waiting and not self._transport.is_closing():
            self._transport.write(waiting)


class _Abortable:
    """Let an application drop its connection at once, whatever waits to be sent; mixed into uvicorn's protocols."""

    app: Any

    def connection_made(self, transport: Transport) -> None:
        """Add the way to abort to the scope of every request."""
        begin: Any = super()
        # One that is upgraded to a WebSocket is made twice.
        begin.connection_made(transport if isinstance(transport, _Joining) else _Joining(transport))
        app = self.app

        async def serve(scope: Any, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), _ABORT: transport.abort}
            await app(scope, receive, send)

        self.app = serve


def _abortable(protocol: Any) -> type:
    return type(f"Abortable{protocol.__name__}", (_Abortable, protocol), {})


def uvicorn_options(app: Litestar) -> dict[str, Any]:
    """Return the options of ``uvicorn.Config`` that belong to this application."""
    return {
        "http": _abortable(AutoHTTPProtocol),
        "ws": _abortable(AutoWebSocketsProtocol),
        "ws_max_size": app.state.max_body,
        # Compression takes more memory for each idle connection than all the rest of it.
        "ws_per_message_deflate": False,
    }


def abort(scope: Scope) -> None:
    """Drop a connection whose peer does not read; another server than ours closes it as it can."""
    extensions: Any = scope.get("extensions") or {}
    if _ABORT in extensions:
        extensions[_ABORT]()


class Watch:
    """Drop a connection whose peer takes longer than ``seconds`` to accept one piece.

    A timeout for each piece would cost more than to send it: here a timer runs once for many. Several tasks may send
    on one connection; the clock starts anew whenever a piece of any of them was accepted.
    """

    __slots__ = ("_loop", "_scope", "_seconds", "_sending", "_since", "_timer")

    def __init__(self, scope: Scope, seconds: float) -> None:
        self._scope = scope
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._sending = 0
        self._since = 0.0
        self._timer: TimerHandle | None = None

    async def over(self, sending: Awaitable[None]) -> None:
        """Wait until a piece is accepted; a dropped connection ends the wait as the loss of any connection does."""
        if not self._sending:
            self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        self._sending += 1
        try:
            await sending
        finally:
            self._sending -= 1
            if self._sending:
                self._since = self._loop.time()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._sending:
            return
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            abort(self._scope)
        else:
            self._timer = self._loop.call_later(left, self._look)
