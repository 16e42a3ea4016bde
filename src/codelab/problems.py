"""Render every error once: RFC 9457 problem documents, and never a traceback, a secret or a bare 500."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DBAPIError

from codelab.db.faults import is_unavailable
from codelab.errors import BadRequest, CodelabError, Unavailable

if TYPE_CHECKING:
    from litestar.types import ExceptionHandlersMap

__all__ = ("EXCEPTION_HANDLERS", "PROBLEM_JSON")

PROBLEM_JSON = "application/problem+json"
_MISSING = re.compile(r"missing required field `(.+?)`")
logger = logging.getLogger(__name__)

_FAMILY: tuple[type[CodelabError], ...] = (CodelabError, *CodelabError.__subclasses__())
#: What the framework refuses says the same as what we refuse with that status, where we have an error for it.
_KINDS: dict[int, type[CodelabError]] = {
    int(status): type("_Http", (CodelabError,), {"status": int(status), "title": status.phrase, "code": code})
    for status, code in ((status, status.name.lower()) for status in HTTPStatus)
} | {kind.status: kind for kind in _FAMILY}


def _problem(request: Request[Any, Any, Any], error: CodelabError) -> Response[dict[str, Any]]:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        document["field"] = error.field
    if (request_id := request.scope.get("request_id")) is not None:
        document["request_id"] = request_id
    return Response(document | error.extra, status_code=error.status, headers=error.headers, media_type=PROBLEM_JSON)


def _from_domain(request: Request[Any, Any, Any], error: CodelabError) -> Response[dict[str, Any]]:
    return _problem(request, error)


def _from_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Render what the framework refuses: unknown routes, wrong methods, bodies and parameters that do not fit."""
    status = HTTPStatus(error.status_code)
    detail, field = str(error.detail or status.phrase), None
    if isinstance(error.extra, list) and error.extra and isinstance(error.extra[0], dict):
        first = error.extra[0]
        field = str(first.get("key", "")).removeprefix("data.") or None
        field = None if field == "data" else field
        message = str(first.get("message", detail)).partition(" - at `")[0]
        if field is None and (missing := _MISSING.search(message)):
            field, message = missing.group(1), "is required"
        detail = f"{field}: {message}" if field else f"The body does not fit: {message}"
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = "The body is larger than this server takes."
    elif status == HTTPStatus.BAD_REQUEST:
        detail = detail.partition("\n")[0]
    return _problem(request, _KINDS[status](detail, field=field, headers=dict(error.headers or {})))


def _from_bug(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    if is_unavailable(error):
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        logger.error("the database does not answer: %s: %s", type(cause).__name__, str(cause).partition("\n")[0])
        return _problem(request, Unavailable("The database does not answer; try again.", headers={"Retry-After": "1"}))
    if isinstance(error, RecursionError):
        return _problem(request, BadRequest("The body is nested too deeply."))
    logger.error("an error that nobody expected", exc_info=error)
    return _problem(request, CodelabError("Something went wrong here; the server's log has the details."))


#: For ``Litestar(exception_handlers=…)``.
EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    CodelabError: _from_domain,
    HTTPException: _from_http,
    Exception: _from_bug,
}
