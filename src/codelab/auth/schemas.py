"""What the token endpoint answers, and what is known about who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

__all__ = (
    "AuditPage",
    "AuditView",
    "ClientPage",
    "ClientView",
    "KeyPage",
    "KeyView",
    "NewPassword",
    "NewSecret",
    "Origin",
    "ResetLink",
    "TokenAnswer",
    "TokenError",
    "UserInfo",
    "UserPage",
    "UserView",
    "WantedPassword",
    "WantedSecret",
    "WantedUser",
)


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
    post_logout_redirect_uris: list[str]
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


class AuditView(msgspec.Struct, kw_only=True):
    """Show a row of the audit trail; ``seq`` is its place in the chain."""

    seq: int
    id: str
    event_type: str
    user_id: str | None
    client_id: str | None
    event_data: dict[str, Any] | None
    ip_address: str | None
    user_agent: str | None
    success: bool
    error_message: str | None
    created_at: datetime


class UserPage(msgspec.Struct, kw_only=True):
    """List people."""

    users: list[UserView]


class ClientPage(msgspec.Struct, kw_only=True):
    """List clients."""

    clients: list[ClientView]


class KeyPage(msgspec.Struct, kw_only=True):
    """List signing keys."""

    keys: list[KeyView]


class AuditPage(msgspec.Struct, kw_only=True):
    """List rows of the audit trail, the newest first."""

    rows: list[AuditView]


class WantedUser(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Say what user to make; without a password one is made."""

    username: str
    email: str
    password: str | None = None
    is_admin: bool = False


class WantedPassword(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Say what the new password is; without one it is made."""

    password: str | None = None


class WantedSecret(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Say what the new secret is; without one it is made."""

    secret: str | None = None


class NewPassword(msgspec.Struct, kw_only=True):
    """Show a user, and the password that was made for them, null for one that was given."""

    user: UserView
    password: str | None


class ResetLink(msgspec.Struct, kw_only=True):
    """Show the page on which a person chooses a password; the link is good once, and for a day."""

    url: str


class NewSecret(msgspec.Struct, kw_only=True):
    """Show a client, and the secret that was made for it, null without one or for one that was given."""

    client: ClientView
    secret: str | None
