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
            return None
        scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
        if len(values) > 1:
            raise refuse("The Authorization header must occur once.")
        if scheme.lower() != "bearer":
            return None
        return await self._principals.find(token.strip())
