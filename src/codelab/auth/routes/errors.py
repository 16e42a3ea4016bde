"""How errors of the OAuth routes are answered (RFC 6749 section 5.2)."""

from __future__ import annotations

import logging
import re

from litestar import Response
from litestar.exceptions import HTTPException

from codelab.auth.errors import NO_STORE, OAuthError
from codelab.db.faults import is_unavailable
from codelab.errors import CodelabError

__all__ = ("render_oauth_error",)

logger = logging.getLogger(__name__)

#: What RFC 6749 allows in ``error_description``.
_FORBIDDEN = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def render_oauth_error(error: Exception) -> Response[dict[str, str]]:
    """Answer any error of a token request; what was not raised on purpose is logged and told as ``server_error``."""
    headers: dict[str, str] = {}
    match error:
        case OAuthError():
            status, code, detail, headers = error.status, error.code, error.detail, error.headers
        case CodelabError():
            code = "temporarily_unavailable" if error.status == 503 else "invalid_request"
            status, detail, headers = error.status, error.detail, error.headers
        case HTTPException() if error.status_code < 500:
            status, code, detail = error.status_code, "invalid_request", error.detail
        case _ if is_unavailable(error):
            logger.error("A token request found no database: %s", type(error).__name__)
            status, code, detail = 503, "temporarily_unavailable", "The database does not answer; try again."
            headers = {"Retry-After": "1"}
        case _:
            logger.error("A token request failed", exc_info=error)
            status, code, detail = 500, "server_error", "An internal error occurred."
    body = {"error": code, "error_description": _FORBIDDEN.sub("?", detail)}
    return Response(body, status_code=status, headers={**headers, **NO_STORE}, media_type="application/json")
