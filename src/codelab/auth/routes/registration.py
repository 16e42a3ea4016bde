"""The registration endpoint (RFC 7591)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litestar import Request, Response, post
from litestar.openapi.spec import OpenAPIType, Schema

from codelab.auth.errors import NO_STORE
from codelab.auth.forms import MAX_FORM_BYTES
from codelab.auth.middleware import EXCLUDE
from codelab.auth.routes.common import describe_refusals, origin_of
from codelab.auth.routes.errors import render_oauth_error
from codelab.openapi import JSON, TEXT, takes_body
from codelab.web import RequireScopes

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.registration import Registration

__all__ = ("create_routes",)

_TEXTS = Schema(type=OpenAPIType.ARRAY, items=TEXT)
_METADATA = Schema(
    type=OpenAPIType.OBJECT,
    properties={
        "redirect_uris": _TEXTS,
        "grant_types": _TEXTS,
        "response_types": _TEXTS,
        "token_endpoint_auth_method": TEXT,
        "client_name": TEXT,
        "client_uri": TEXT,
        "scope": TEXT,
        "post_logout_redirect_uris": _TEXTS,
    },
)


def create_routes(registration: Registration, *, is_open: bool) -> list[HTTPRouteHandler]:
    """Make the route; unless it is open to everybody, it needs a token with ``api:admin``."""
    access: dict[str, Any] = (
        {"opt": {EXCLUDE: True}, "security": [{}]}
        if is_open
        else {"middleware": [RequireScopes()], "opt": {"scope": "api:admin"}}
    )

    @post(
        "/oauth/register",
        status_code=201,
        request_max_body_size=MAX_FORM_BYTES,
        summary="Register a client",
        tags=["auth"],
        operation_class=takes_body(JSON, _METADATA),
        responses=describe_refusals(400, 413, 429, 503),
        **access,
    )
    async def register(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """Register a client: a JSON object with the members of RFC 7591 section 2."""
        try:
            content = await registration.register(await request.body(), origin_of(request))
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer has the shape of RFC 7591
            return cast("Response[dict[str, Any]]", render_oauth_error(error))
        return Response(content, status_code=201, headers=NO_STORE)

    return [register]
