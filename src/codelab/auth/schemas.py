"""What the token endpoint answers, and what is known about who asks."""

from __future__ import annotations

import msgspec

__all__ = ("Origin", "TokenAnswer", "TokenError", "UserInfo")


class TokenAnswer(msgspec.Struct, kw_only=True):
    """Answer a token request (RFC 6749 section 5.1); ``expires_in`` is in seconds."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int
    refresh_token: str | msgspec.UnsetType = msgspec.UNSET
    id_token: str | msgspec.UnsetType = msgspec.UNSET
    scope: str


class TokenError(msgspec.Struct, kw_only=True):
    """Refuse a token request (RFC 6749 section 5.2)."""

    error: str
    error_description: str


class UserInfo(msgspec.Struct, kw_only=True):
    """Say who logged in (OpenID Connect Core 1.0 section 5.1)."""

    sub: str
    preferred_username: str | msgspec.UnsetType = msgspec.UNSET
    email: str | msgspec.UnsetType = msgspec.UNSET
    email_verified: bool | msgspec.UnsetType = msgspec.UNSET


class Origin(msgspec.Struct, frozen=True):
    """Tell where a request came from, as far as the audit trail keeps it."""

    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
