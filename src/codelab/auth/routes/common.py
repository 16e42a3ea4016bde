"""What the routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from litestar import MediaType, Request, Response
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from codelab.auth.errors import NO_STORE
from codelab.auth.forms import FORM, MAX_FORM_BYTES, parse_form
from codelab.auth.middleware import EXCLUDE
from codelab.auth.routes.errors import render_oauth_error
from codelab.auth.schemas import Origin, TokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("PAGE", "PAGE_FORM", "answer_form", "describe_form", "origin_of")

#: What all routes of pages have.
PAGE: dict[str, Any] = {"opt": {EXCLUDE: True}, "tags": ["pages"], "security": [{}], "media_type": MediaType.HTML}
PAGE_FORM: dict[str, Any] = {**PAGE, "status_code": 200, "request_max_body_size": MAX_FORM_BYTES}
_REFUSALS = {
    400: "The request, the grant or the scope is refused",
    401: "The client, or the name and password, is refused",
    413: "The form is over 64 KiB",
    429: "Too many failures; `Retry-After` says how long to wait",
    503: "Try again later",
}


def origin_of(request: Request[Any, Any, Any]) -> Origin:
    """Tell where a request came from."""
    return Origin(
        ip_address=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent"),
        request_id=cast("dict[str, Any]", request.scope).get("request_id"),
    )


def describe_form(*required: str, also: tuple[str, ...]) -> dict[str, Any]:
    """Return what all routes have that a client sends a form to.

    The handler reads the form by itself, since RFC 6749 is stricter than the framework.
    """

    @dataclass
    class FormOperation(Operation):
        def __post_init__(self) -> None:
            text = Schema(type=OpenAPIType.STRING)
            names = [*required, "client_id", "client_secret", *also]
            schema = Schema(type=OpenAPIType.OBJECT, required=list(required), properties=dict.fromkeys(names, text))
            self.request_body = RequestBody(required=True, content={FORM: OpenAPIMediaType(schema=schema)})

    return {
        "status_code": 200,
        "opt": {EXCLUDE: True},
        "request_max_body_size": MAX_FORM_BYTES,
        "tags": ["auth"],
        "security": [{}],
        "operation_class": FormOperation,
        "responses": {
            status: ResponseSpec(TokenError, description=meaning, generate_examples=False)
            for status, meaning in _REFUSALS.items()
        },
    }


async def answer_form(
    request: Request[Any, Any, Any], answer: Callable[[dict[str, str], str | None, Origin], Awaitable[Any]]
) -> Response[Any]:
    """Answer a form, given to ``answer`` with the ``Authorization`` header and where it came from, or say why not."""
    try:
        fields = parse_form(request.headers.get("content-type"), await request.body())
        content = await answer(fields, request.headers.get("authorization"), origin_of(request))
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer has the shape of RFC 6749
        # Not an exception handler: Litestar prefers the application's one for a class nearer to the error's.
        return render_oauth_error(error)
    return Response(content, headers=NO_STORE)
