"""The token endpoint, and what is asked about tokens later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, Response, post

from codelab.auth.routes.common import answer_form, describe_form
from codelab.auth.schemas import TokenAnswer

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.grants import Grants
    from codelab.auth.introspection import Introspection

__all__ = ("create_routes",)

_OF_GRANTS = (
    "code",
    "code_verifier",
    "device_code",
    "redirect_uri",
    "refresh_token",
    "username",
    "password",
    "scope",
    "resource",
)


def create_routes(grants: Grants, introspection: Introspection) -> list[HTTPRouteHandler]:
    """Make the routes."""
    about_a_token = describe_form("token", also=("token_type_hint",))

    @post("/oauth/token", summary="Ask for tokens", **describe_form("grant_type", also=_OF_GRANTS))
    async def token(request: Request[Any, Any, Any]) -> Response[TokenAnswer]:
        """Answer a token request (RFC 6749 section 3.2): a form with ``grant_type`` and ``client_id``."""
        return await answer_form(request, grants.answer)

    @post("/oauth/introspect", summary="Ask what a token is", **about_a_token)
    async def introspect(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """Describe a token (RFC 7662) to a client with a secret."""
        return await answer_form(request, introspection.describe)

    @post("/oauth/revoke", summary="End a token", **about_a_token)
    async def revoke(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """End a token before its time (RFC 7009); a refresh token ends with all that came of its login."""
        return await answer_form(request, introspection.revoke)

    return [token, introspect, revoke]
