"""What is done around the whole application: CORS where browsers may ask, and challenges that say where to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.enums import ScopeType

if TYPE_CHECKING:
    from collections.abc import Collection

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ("Challenges", "Cors")

_STARTS = {"http.response.start", "websocket.http.response.start"}
_PREFLIGHT = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, MCP-Protocol-Version"),
    (b"access-control-max-age", b"7200"),
)
_ANSWER = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"WWW-Authenticate, Retry-After, X-Request-ID"),
)


class Cors:
    """Let scripts of any origin read what some paths answer; never with cookies, which these paths do not look at."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and any(
            name == b"access-control-request-method" for name, _ in scope["headers"]
        ):
            await send({"type": "http.response.start", "status": 204, "headers": list(_PREFLIGHT)})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ANSWER]
            await send(message)

        await self._app(scope, receive, answer)


class Challenges:
    """Add ``resource_metadata`` to every bearer challenge of our own API (RFC 9728 section 5.1)."""

    def __init__(self, app: ASGIApp, resource_url: str, *, but: Collection[str]) -> None:
        self._app = app
        self._parameter = f'resource_metadata="{resource_url}"'.encode()
        self._but = frozenset(but)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope.get("path") in self._but:
            await self._app(scope, receive, send)
            return

        async def answer(message: Any) -> None:
            if message["type"] in _STARTS and message["status"] in {401, 403}:
                message["headers"] = [(name, self._extend(name, value)) for name, value in message["headers"]]
            await send(message)

        await self._app(scope, receive, answer)

    def _extend(self, name: bytes, value: bytes) -> bytes:
        if name.lower() != b"www-authenticate" or value[:6].lower() != b"bearer":
            return value
        return value.rstrip() + (b", " if value[6:].strip() else b" ") + self._parameter
