"""The one family of errors that codelab raises on purpose.

``CodelabError``
├── ``BadRequest`` 400
├── ``Unauthenticated`` 401
├── ``Forbidden`` 403
├── ``NotFound`` 404
├── ``Conflict`` 409
├── ``TooLarge`` 413
└── ``Unavailable`` 503

``StartError`` stands beside it: it ends the process with one line and exit code 2.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = (
    "BadRequest",
    "CodelabError",
    "Conflict",
    "Forbidden",
    "NotFound",
    "StartError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
)


class CodelabError(Exception):
    """Report something to the caller that the caller can act on.

    ``code`` is for programs and stays stable, ``detail`` is for people, ``field`` names the wrong part of the
    request, ``extra`` are further members of the problem document (RFC 9457 section 3.2), ``headers`` come beside those
    that the kind of error ``always`` has.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    always: ClassVar[dict[str, str]] = {}
    code = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        field: str | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.field = field
        self.headers = self.always | (headers or {})
        self.extra = extra or {}


class BadRequest(CodelabError):
    """Refuse a request that is malformed."""

    status, title, code = 400, "Bad Request", "invalid_request"


class Unauthenticated(CodelabError):
    """Refuse a caller whose identity is not proven."""

    status, title, code = 401, "Unauthorized", "unauthenticated"


class Forbidden(CodelabError):
    """Refuse a caller who is known and may not do this."""

    status, title, code = 403, "Forbidden", "forbidden"


class NotFound(CodelabError):
    """Say that a thing does not exist, or not for this caller."""

    status, title, code = 404, "Not Found", "not_found"


class Conflict(CodelabError):
    """Refuse a change that contradicts the present state."""

    status, title, code = 409, "Conflict", "conflict"


class TooLarge(CodelabError):
    """Refuse a request that is over a stated size."""

    status, title, code = 413, "Content Too Large", "content_too_large"


class Unavailable(CodelabError):
    """Say that a part which this request needs does not answer now; after a moment it may be tried again."""

    status, title, code = 503, "Service Unavailable", "unavailable"
    always: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class StartError(Exception):
    """End the start with one line that says what is wrong and what to do.

    The line never holds a password: build it from masked URLs only.
    """
