"""The ASGI middleware that says who is calling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware

from codelab.auth.tokens import refuse

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

    from codelab.auth.principals import Principals
    from codelab.identity import Principal

__all__ = ("EXCLUDE", "BearerMiddleware")

#: Routes with this in ``opt`` do not look at the header at all, so a stale token does not hurt there.
EXCLUDE = "exclude_from_auth"


#: The subprotocol after which a socket's token comes.
BEARER = "bearer"


class BearerMiddleware(ASGIMiddleware):
    """Set ``scope["user"]`` to the ``Principal`` of the bearer token (RFC 6750), or to None without one."""

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)
    exclude_opt_key = EXCLUDE

    def __init__(self, principals: Principals) -> None:
        self._principals = principals

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Find the caller; raises ``Unauthenticated`` for a token that is not valid."""
        scope["user"] = await self._find(scope)
        await next_app(scope, receive, send)

    async def _find(self, scope: Scope) -> Principal | None:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if not values:
            return await self._find_offered(scope)
        scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
        if len(values) > 1:
            raise refuse("The Authorization header must occur once.")
        if scheme.lower() != "bearer":
            return None
        return await self._principals.find(token.strip())

    async def _find_offered(self, scope: Scope) -> Principal | None:
        """Find the caller of a socket by ``Sec-WebSocket-Protocol: bearer, <token>``: browsers send no other header."""
        if scope["type"] != ScopeType.WEBSOCKET:
            return None
        offered = list(scope.get("subprotocols") or ())
        if BEARER not in offered:
            return None
        at = offered.index(BEARER)
        if len(offered) != at + 2:
            raise refuse("The subprotocol bearer must be followed by the access token alone.")
        return await self._principals.find(offered[at + 1])
