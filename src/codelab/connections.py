"""How uvicorn carries connections here: the size of WebSocket messages, and a way to drop a peer that does not read.

ASGI cannot abort a connection: an application that returns leaves what it sent in a buffer that the peer never empties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

if TYPE_CHECKING:
    from asyncio import Transport

    from litestar import Litestar
    from litestar.types import Receive, Scope, Send

__all__ = ("abort", "uvicorn_options")

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
