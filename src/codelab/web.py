"""What codelab changes in how requests are read and let in and routes are gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, Router
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware

from codelab.errors import BadRequest, Unauthenticated
from codelab.identity import Principal, challenge
from codelab.text import load_lenient, scrub

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

__all__ = ("CodelabRequest", "OneRouter", "RequireScopes", "read_json")


class CodelabRequest(Request[Any, Any, Any]):
    """Read JSON bodies as ``read_json`` does."""

    async def json(self) -> Any:
        """Return the body as JSON, None without one.

        Raises:
            BadRequest: it is no JSON.
        """
        body = await self.body()
        return read_json(body) if body else None


class OneRouter(Router):
    """Gather routes for one application, and be made anew for the next.

    Litestar copies a router with all it holds, so that several may have it; nobody else has this one.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> OneRouter:
        """Return the router itself."""
        return self


class RequireScopes(ASGIMiddleware):
    """Let only those in whose token has a scope: ``opt["scope"]``, or by method ``api:read`` or ``api:write``.

    Not a guard: Litestar copies the whole handler for each guard of each request.
    """

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one connection.

        Raises:
            Unauthenticated: nobody is logged in.
            Forbidden: the token lacks the scope (RFC 6750 ``insufficient_scope``).
        """
        principal = scope.get("user")
        if not isinstance(principal, Principal):
            raise Unauthenticated("This needs an access token.", headers=challenge())
        method = scope.get("method", "GET")
        needed = scope["route_handler"].opt.get("scope")
        principal.require(needed or ("api:read" if method in {"GET", "HEAD", "OPTIONS"} else "api:write"))
        await next_app(scope, receive, send)


def read_json(body: bytes, what: str = "body") -> Any:
    r"""Read JSON that a client sent, also when it escapes lone surrogates (``"\ud800"``).

    msgspec refuses them as malformed. Read leniently, the field that holds them can be named, or a tool's output kept.

    Raises:
        BadRequest: it is no JSON; ``what`` is named.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as refused:
        try:
            value = load_lenient(body)
        except ValueError:
            raise BadRequest(f"The {what} is not valid JSON: {refused}") from None
        if isinstance(value, dict) and any(scrub(name) != name for name in value):
            raise BadRequest(f"The {what} has a member whose name is no text.") from None  # msgspec cannot look it up
        return value
    except RecursionError:
        raise BadRequest(f"The {what} is nested too deeply.") from None
