"""The token endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from litestar import Request, Response, post
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from codelab.auth.errors import NO_STORE, render_oauth_error
from codelab.auth.forms import FORM, MAX_FORM_BYTES, parse_form
from codelab.auth.middleware import EXCLUDE
from codelab.auth.routes.common import origin_of
from codelab.auth.schemas import TokenAnswer, TokenError

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.grants import Grants

__all__ = ("create_routes",)


_PARAMETERS = (
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "username",
    "password",
    "scope",
    "resource",
)
_REFUSALS = {
    400: "The request, the grant or the scope is refused",
    401: "The client, or the name and password, is refused",
    413: "The form is over 64 KiB",
    503: "Try again later",
}


@dataclass
class _TokenOperation(Operation):
    """Describe the form, which the handler reads by itself: RFC 6749 is stricter than the framework."""

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING)
        schema = Schema(
            type=OpenAPIType.OBJECT,
            required=["grant_type"],
            properties={
                "grant_type": Schema(type=OpenAPIType.STRING),
                **dict.fromkeys(_PARAMETERS, text),
            },
        )
        self.request_body = RequestBody(required=True, content={FORM: OpenAPIMediaType(schema=schema)})


def create_routes(grants: Grants) -> list[HTTPRouteHandler]:
    """Make the route of the token endpoint."""

    @post(
        "/oauth/token",
        status_code=200,
        opt={EXCLUDE: True},
        request_max_body_size=MAX_FORM_BYTES,
        summary="Ask for tokens",
        tags=["auth"],
        security=[{}],
        operation_class=_TokenOperation,
        responses={
            status: ResponseSpec(TokenError, description=meaning, generate_examples=False)
            for status, meaning in _REFUSALS.items()
        },
    )
    async def token(request: Request[Any, Any, Any]) -> Response[TokenAnswer]:
        """Answer a token request (RFC 6749 section 3.2): a form with ``grant_type`` and ``client_id``."""
        try:
            fields = parse_form(request.headers.get("content-type"), await request.body())
            answer = await grants.answer(fields, request.headers.get("authorization"), origin_of(request))
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer has the shape of RFC 6749
            # Not an exception handler: Litestar prefers the application's one for a class nearer to the error's.
            return cast("Response[TokenAnswer]", render_oauth_error(error))
        return Response(answer, headers=NO_STORE)

    return [token]
