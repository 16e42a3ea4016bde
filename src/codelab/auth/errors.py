"""Errors of the OAuth routes in the shape of RFC 6749 section 5.2."""

from __future__ import annotations

from codelab.errors import CodelabError
from codelab.identity import challenge

__all__ = ("NO_STORE", "InvalidClient", "OAuthError", "WrongCredentials")

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class OAuthError(CodelabError):
    """Refuse a token request; ``code`` is the ``error`` of RFC 6749 section 5.2.

    ``recorded`` says that the audit trail tells of it already.
    """

    recorded = False
    status, title, code = 400, "Bad Request", "invalid_request"


class InvalidClient(OAuthError):
    """Refuse a client that is unknown or does not prove who it is."""

    status, title, code = 401, "Unauthorized", "invalid_client"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Basic realm="codelab"'})


class WrongCredentials(OAuthError):
    """Refuse a name and password; 401, as the clients of the reference system expect, and not RFC 6749's 400."""

    status, title, code = 401, "Unauthorized", "invalid_grant"

    def __init__(self) -> None:
        super().__init__("Invalid username or password", headers=challenge())
