"""Who a client acts for (OpenID Connect Core 1.0 section 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, Response, route

from codelab.auth.errors import NO_STORE
from codelab.auth.schemas import UserInfo
from codelab.identity import Principal
from codelab.web import RequireScopes

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.introspection import Introspection

__all__ = ("create_routes",)


def create_routes(introspection: Introspection) -> list[HTTPRouteHandler]:
    """Make the route."""

    @route(
        "/oauth/userinfo",
        http_method=["GET", "POST"],
        status_code=200,
        middleware=[RequireScopes()],
        opt={"scope": "openid"},
        summary="Ask who logged in",
        tags=["auth"],
    )
    async def userinfo(request: Request[Principal, Any, Any]) -> Response[UserInfo]:
        """Say who logged in, as far as the scopes of the token go: ``openid``, ``profile``, ``email``."""
        return Response(await introspection.tell_person(request.user), headers=NO_STORE)

    return [userinfo]
