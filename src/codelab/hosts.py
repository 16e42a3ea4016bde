"""Refuse requests under a name that is not this server's: what a browser is tricked into asking (DNS rebinding)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType

from codelab.errors import BadRequest
from codelab.problems import PROBLEM_JSON, document

if TYPE_CHECKING:
    from collections.abc import Collection

    from litestar.types import ASGIApp, Receive, Scope, Send

__all__ = ("AllowedHosts",)

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
#: Load balancers ask by address, and there is nothing to be had.
_OPEN = {"/health", "/ready", "/metrics"}


class AllowedHosts:
    """Let requests through whose ``Host`` is the issuer's, a loopback one, or one of ``more``; any port will do."""

    def __init__(self, app: ASGIApp, issuer: str, more: Collection[str]) -> None:
        self._app = app
        self._allowed = {urlsplit(issuer).hostname or "", *_LOOPBACK, *more}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; 400 for another ``Host`` (RFC 9110 section 7.2), or more or less than one."""
        if scope["path"] in _OPEN or self._fits(scope):
            await self._app(scope, receive, send)
            return
        answer: Any = send
        kind = "http.response"
        if scope["type"] == ScopeType.WEBSOCKET:
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await answer({"type": "websocket.close", "code": 1008, "reason": ""})
                return
            kind = "websocket.http.response"
        error = BadRequest("Host: this server is not known by that name (CODELAB_ALLOWED_HOSTS).", field="Host")
        body = msgspec.json.encode(document(error, cast("dict[str, Any]", scope).get("request_id")))
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
        await answer({"type": f"{kind}.start", "status": error.status, "headers": headers})
        await answer({"type": f"{kind}.body", "body": body})

    def _fits(self, scope: Any) -> bool:
        values = [value for name, value in scope["headers"] if name == b"host"]
        if len(values) != 1:
            return False
        try:
            host = urlsplit(f"//{values[0].decode('ascii')}").hostname
        except ValueError:
            return False
        return host in self._allowed
