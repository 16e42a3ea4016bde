"""What the token endpoint answers, and what is known about who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

__all__ = ("ClientView", "KeyView", "Origin", "TokenAnswer", "TokenError", "UserInfo", "UserView")


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


class UserView(msgspec.Struct, kw_only=True):
    """Show a person to an operator."""

    id: str
    username: str
    email: str
    is_active: bool
    is_admin: bool
    is_verified: bool
    created_at: datetime
    last_login_at: datetime | None


class ClientView(msgspec.Struct, kw_only=True):
    """Show a client to an operator; scopes are separated by spaces, lifetimes are in seconds."""

    client_id: str
    name: str
    is_confidential: bool
    is_active: bool
    is_registered: bool
    allowed_scopes: str
    default_scopes: str
    allowed_grant_types: list[str]
    redirect_uris: list[str]
    access_token_lifetime: int
    refresh_token_lifetime: int
    created_at: datetime


class KeyView(msgspec.Struct, kw_only=True):
    """Show a signing key to an operator.

    One key ``signs``; those before it ``verify`` until ``expires_at``, when the last token that they signed ends.
    """

    kid: str
    alg: str
    state: Literal["signs", "verifies", "expired"]
    created_at: datetime
    retired_at: datetime | None
    expires_at: datetime | None
