"""Render every error once: RFC 9457 problem documents, and never a traceback, a secret or a bare 500.

A WebSocket handshake that is refused gets the same answer as any HTTP request.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import msgspec
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DBAPIError

from codelab.db.faults import is_full, is_unavailable
from codelab.db.types import new_id
from codelab.errors import BadRequest, CodelabError, Unavailable
from codelab.text import scrub

if TYPE_CHECKING:
    from litestar.types import ASGIApp, ExceptionHandlersMap, Message, Receive, Scope, Send

__all__ = ("EXCEPTION_HANDLERS", "PROBLEM_JSON", "Handshakes", "describe", "document", "name_member", "note_refusal")

PROBLEM_JSON = "application/problem+json"
_START, _BODY = "websocket.http.response.start", "websocket.http.response.body"
#: Where a scope keeps why its handshake was refused.
_REFUSAL = "codelab.refusal"
#: What msgspec says of an object as a whole, where a member of it is meant.
_MEMBERS = (
    (re.compile(r"missing required field `(.+?)`"), "is required"),
    (re.compile(r"contains unknown field `(.*?)`"), "is not a member of it"),
)
logger = logging.getLogger(__name__)

_FAMILY: tuple[type[CodelabError], ...] = (CodelabError, *CodelabError.__subclasses__())
#: What the framework refuses says the same as what we refuse with that status, where we have an error for it.
_KINDS: dict[int, type[CodelabError]] = {
    int(status): type("_Http", (CodelabError,), {"status": int(status), "title": status.phrase, "code": code})
    for status, code in ((status, status.name.lower()) for status in HTTPStatus)
} | {kind.status: kind for kind in _FAMILY}


def document(error: CodelabError, request_id: Any = None) -> dict[str, Any]:
    """Write an error as a problem document."""
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        members["field"] = error.field
    if request_id is not None:
        members["request_id"] = request_id
    return members | error.extra


def describe(error: Exception) -> CodelabError:
    """Say as one of ours what any error means to the caller; what nobody expected is logged."""
    if isinstance(error, CodelabError):
        return error
    return _read_http(error) if isinstance(error, HTTPException) else _read_bug(error)


def _render(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    known = describe(error)
    content = document(known, request.scope.get("request_id"))
    return Response(content, status_code=known.status, headers=known.headers, media_type=PROBLEM_JSON)


def _read_http(error: HTTPException) -> CodelabError:
    """Read what the framework refuses: unknown routes, wrong methods, bodies and parameters that do not fit."""
    status = HTTPStatus(error.status_code)
    detail, field = str(error.detail or status.phrase), None
    if isinstance(error.extra, list) and error.extra and isinstance(error.extra[0], dict):
        first = error.extra[0]
        field = str(first.get("key", "")).removeprefix("data.") or None
        field = None if field == "data" else field
        message = str(first.get("message", detail)).partition(" - at `")[0]
        field, message = name_member(field, message)
        detail = f"{field}: {message}" if field else f"The body does not fit: {message}"
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = "The body is larger than this server takes."
    elif status == HTTPStatus.BAD_REQUEST:
        detail = detail.partition("\n")[0]
    return _KINDS[status](detail, field=field, headers=dict(error.headers or {}))


def name_member(field: str | None, message: str) -> tuple[str | None, str]:
    """Say of the member what the message says of its object; ``field`` is the object, None the whole body."""
    for pattern, problem in _MEMBERS:
        if found := pattern.search(message):
            name = scrub(found[1])
            return (f"{field}.{name}" if field else name), problem
    return field, message


def _read_bug(error: Exception) -> CodelabError:
    if is_unavailable(error):
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        logger.error("the database does not answer: %s: %s", type(cause).__name__, str(cause).partition("\n")[0])
        if is_full(error):
            detail = "The disk of the database is full, or cannot be written; nothing was kept. Try again later."
            return Unavailable(detail, code="storage_full")
        return Unavailable("The database does not answer; try again.")
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deeply.")
    if isinstance(error, UnicodeEncodeError):  # msgspec cannot look up a lone surrogate, see ``read_json``
        return BadRequest("The body has a member whose name is no text.")
    logger.error("an error that nobody expected", exc_info=error)
    return CodelabError("Something went wrong here; the server's log has the details.")


#: For ``Litestar(exception_handlers=…)``.
EXCEPTION_HANDLERS: ExceptionHandlersMap = {CodelabError: _render, HTTPException: _render, Exception: _render}


async def note_refusal(error: Exception, scope: Scope) -> None:
    """Leave the error of a WebSocket for ``Handshakes``; for ``Litestar(after_exception=…)``."""
    if scope["type"] == ScopeType.WEBSOCKET:
        scope.setdefault("state", {})[_REFUSAL] = error


class Handshakes:
    """Answer a WebSocket handshake that is refused with a problem document.

    Litestar closes with 4500 and the message as its reason, which uvicorn turns into a bare 403. The ASGI extension
    ``websocket.http.response`` (Denial Response) says more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.WEBSOCKET:
            await self._app(scope, receive, send)
            return
        opened = False

        async def answer(message: Message) -> None:
            nonlocal opened
            opened = opened or message["type"] == "websocket.accept"
            refusal = scope.get("state", {}).get(_REFUSAL)
            if opened or message["type"] != "websocket.close" or refusal is None:
                await send(message)
                return
            error = describe(refusal)
            lines = {"Content-Type": PROBLEM_JSON} | error.headers
            headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in lines.items()]
            body = msgspec.json.encode(document(error, new_id()))
            await send(cast("Message", {"type": _START, "status": error.status, "headers": headers}))
            await send(cast("Message", {"type": _BODY, "body": body}))

        await self._app(scope, receive, answer)
