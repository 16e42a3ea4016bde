"""How uvicorn carries connections here: the size of WebSocket messages, and a way to drop a peer that does not read.

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


class _Abortable:
    """Let an application drop its connection at once, whatever waits to be sent; mixed into uvicorn's protocols."""

    app: Any

    def connection_made(self, transport: Transport) -> None:
        """Add the way to abort to the scope of every request."""
        begin: Any = super()
        begin.connection_made(transport)
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

    A timeout for each piece would cost more than to send it: here a timer runs once for many.
    """

    __slots__ = ("_loop", "_scope", "_seconds", "_since", "_timer")

    def __init__(self, scope: Scope, seconds: float) -> None:
        self._scope = scope
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: TimerHandle | None = None

    async def over(self, sending: Awaitable[None]) -> None:
        """Wait until a piece is accepted; a dropped connection ends the wait as the loss of any connection does."""
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        try:
            await sending
        finally:
            self._since = None

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            abort(self._scope)
        else:
            self._timer = self._loop.call_later(left, self._look)
