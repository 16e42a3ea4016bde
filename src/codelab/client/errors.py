"""Errors that end a chat or one request of it, each with a sentence for the person."""

from __future__ import annotations

__all__ = ("ApiError", "ClientError", "LoginError", "Unauthorized", "Unreachable")


class ClientError(Exception):
    """A sentence for the person at the terminal; ``codelab chat`` prints it as one line and exits with 2."""


class Unreachable(ClientError):
    """The server did not answer."""


class LoginError(ClientError):
    """The server did not accept who we say we are."""


class ApiError(ClientError):
    """The server answered with an error; ``code`` is its stable name (docs/api.md, Errors)."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Unauthorized(ApiError):
    """The access token was not accepted."""
