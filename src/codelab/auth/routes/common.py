"""What the routes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from litestar import MediaType, Request, Response
from litestar.openapi import ResponseSpec

from codelab.auth.errors import NO_STORE
from codelab.auth.forms import FORM, MAX_FORM_BYTES, parse_form
from codelab.auth.middleware import EXCLUDE
from codelab.auth.routes.errors import render_oauth_error
from codelab.auth.schemas import Origin, TokenError
from codelab.openapi import takes_body, takes_query, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("answer_form", "describe_form", "describe_refusals", "origin_of", "page", "page_form")

_PAGE: dict[str, Any] = {"opt": {EXCLUDE: True}, "tags": ["pages"], "security": [{}], "media_type": MediaType.HTML}
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


def page(*parameters: str) -> dict[str, Any]:
    """Return what all routes of pages have; the handler reads the ``parameters`` of its query by itself."""
    return {**_PAGE, "operation_class": takes_query(*parameters)}


def page_form(*fields: str) -> dict[str, Any]:
    """Return what the routes have to which forms of pages go; the handler reads the ``fields`` by itself."""
    return {
        **_PAGE,
        "status_code": 200,
        "request_max_body_size": MAX_FORM_BYTES,
        "operation_class": takes_body(FORM, texts(also=fields)),
    }


def describe_form(*required: str, also: tuple[str, ...]) -> dict[str, Any]:
    """Return what all routes have that a client sends a form to.

    The handler reads the form by itself, since RFC 6749 is stricter than the framework.
    """
    return {
        "status_code": 200,
        "opt": {EXCLUDE: True},
        "request_max_body_size": MAX_FORM_BYTES,
        "tags": ["auth"],
        "security": [{}],
        "operation_class": takes_body(FORM, texts(*required, also=("client_id", "client_secret", *also))),
        "responses": describe_refusals(),
    }


def describe_refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """Return refusals, all or some, in the shape of RFC 6749 section 5.2, which RFC 7591 has as well."""
    return {
        status: ResponseSpec(TokenError, description=meaning, generate_examples=False)
        for status, meaning in _REFUSALS.items()
        if not statuses or status in statuses
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
