"""Tables of module ``auth``: people, clients, their tokens, keys, the audit trail with its chain, and open flows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Integer, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codelab.db import JsonText, UtcDateTime, make_registry, new_id, now
from codelab.db.answers import AnswerRow
from codelab.db.chain import ChainCheckpoint, ChainedRow, ChainHead

__all__ = (
    "AuditCheckpoint",
    "AuditHead",
    "AuditLog",
    "AuthBase",
    "AuthorizationCode",
    "BrowserSession",
    "Consent",
    "DeviceCode",
    "KeptAnswer",
    "OAuthClient",
    "RefreshToken",
    "RevokedToken",
    "SigningKey",
    "User",
)


class AuthBase(DeclarativeBase):
    """Base of the module's tables, with a registry and metadata of their own."""

    __abstract__ = True
    registry = make_registry()


class User(AuthBase):
    """A person who may log in."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    username: Mapped[str] = mapped_column(String(255), index=True, unique=True)
    email: Mapped[str] = mapped_column(String(255), index=True, unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(Boolean, default=True, index=True)
    is_verified: Mapped[bool] = mapped_column(Boolean, default=False)
    is_admin: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OAuthClient(AuthBase):
    """A program that asks for tokens (RFC 6749 section 2). Scopes are separated by spaces.

    ``token_endpoint_auth_method`` is the only way in which it may prove itself, NULL: any that fits. ``is_registered``
    is true of one that registered itself (RFC 7591), ``last_used_at`` is when such a one was first given anything,
    ``document_expires_at`` until when is good what the document at its id, a URL, said.
    """

    __tablename__ = "oauth_clients"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    client_id: Mapped[str] = mapped_column(String(255), index=True, unique=True)
    client_secret_hash: Mapped[str | None] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    is_confidential: Mapped[bool] = mapped_column(Boolean, default=False)
    allowed_scopes: Mapped[str] = mapped_column(Text)
    default_scopes: Mapped[str] = mapped_column(Text)
    allowed_grant_types: Mapped[Any] = mapped_column(JsonText, nullable=False)
    access_token_lifetime: Mapped[int] = mapped_column(Integer, default=900)
    refresh_token_lifetime: Mapped[int] = mapped_column(Integer, default=2_592_000)
    redirect_uris: Mapped[Any] = mapped_column(JsonText, nullable=False, server_default=text("'[]'"))
    post_logout_redirect_uris: Mapped[Any] = mapped_column(JsonText, nullable=False, server_default=text("'[]'"))
    token_endpoint_auth_method: Mapped[str | None] = mapped_column(String(32))
    client_uri: Mapped[str | None] = mapped_column(Text)
    is_registered: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    document_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    is_active: Mapped[bool] = mapped_column(Boolean, default=True, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)


class RefreshToken(AuthBase):
    """A refresh token, known only by its SHA-256. One login and all that was rotated from it are a family.

    ``resource`` is the audience that was asked for (RFC 8707), ``auth_time`` when the person showed who they are.
    """

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    jti_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    family_id: Mapped[str] = mapped_column(String(36), index=True)
    parent_jti_hash: Mapped[str | None] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    client_id: Mapped[str] = mapped_column(
        String(255), ForeignKey("oauth_clients.client_id", ondelete="CASCADE"), index=True
    )
    scope: Mapped[str] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    auth_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    revoked: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class RevokedToken(AuthBase):
    """Access tokens that ended before their time: one by its ``jti``, or all of a family by its id."""

    __tablename__ = "revoked_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class BrowserSession(AuthBase):
    """A person who is signed in with a browser. The cookie is known only by its SHA-256."""

    __tablename__ = "browser_sessions"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    auth_time: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(Text)
    wrong_codes: Mapped[int] = mapped_column(Integer, default=0)


class Consent(AuthBase):
    """What a person let a client do, and need not be asked again."""

    __tablename__ = "consents"
    __table_args__ = (UniqueConstraint("user_id", "client_id", name="uq_consents_user_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    client_id: Mapped[str] = mapped_column(
        String(255), ForeignKey("oauth_clients.client_id", ondelete="CASCADE"), index=True
    )
    scope: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class AuthorizationCode(AuthBase):
    """A code that a client exchanges for tokens once (RFC 6749 section 4.1); known only by its SHA-256.

    ``redirect_uri`` is NULL when the request did not name one. ``family_id`` is that of the tokens it is exchanged for.
    """

    __tablename__ = "authorization_codes"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    code_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    family_id: Mapped[str] = mapped_column(String(36))
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    client_id: Mapped[str] = mapped_column(
        String(255), ForeignKey("oauth_clients.client_id", ondelete="CASCADE"), index=True
    )
    redirect_uri: Mapped[str | None] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    code_challenge: Mapped[str] = mapped_column(String(128))
    nonce: Mapped[str | None] = mapped_column(Text)
    auth_time: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeviceCode(AuthBase):
    """A device that waits until a person lets it in with another (RFC 8628).

    ``state`` is ``pending``, ``approved``, ``denied`` or ``used``. The device code is known only by its SHA-256; the
    user code is short and lives for minutes. ``interval`` is how many seconds the device waits between two questions.
    """

    __tablename__ = "device_codes"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    device_code_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    user_code: Mapped[str] = mapped_column(String(16), index=True, unique=True)
    state: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[str | None] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    client_id: Mapped[str] = mapped_column(
        String(255), ForeignKey("oauth_clients.client_id", ondelete="CASCADE"), index=True
    )
    scope: Mapped[str] = mapped_column(Text)
    resource: Mapped[str | None] = mapped_column(Text)
    auth_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    interval: Mapped[int] = mapped_column(Integer)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class AuditLog(ChainedRow, AuthBase):
    """Something that happened and matters for security.

    ``user_id`` is no foreign key: the row outlives its user, and still says who it was.
    """

    __tablename__ = "audit_logs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_id: Mapped[str | None] = mapped_column(String(36), index=True)
    client_id: Mapped[str | None] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(50), index=True)
    event_data: Mapped[Any] = mapped_column(JsonText, nullable=True)
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(Text)
    success: Mapped[bool] = mapped_column(Boolean, index=True)
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


class AuditHead(ChainHead, AuthBase):
    """Where the chain over the audit trail ends."""

    __tablename__ = "auth_audit_head"


class AuditCheckpoint(ChainCheckpoint, AuthBase):
    """What happened to the chain over the audit trail as a whole."""

    __tablename__ = "auth_audit_checkpoints"


class SigningKey(AuthBase):
    """A key that signs access tokens. It signs until ``retired_at`` and is published until ``expires_at``.

    ``private_jwe`` is the private JWK as a JWE (RFC 7516), encrypted with the key of the key file.
    """

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    alg: Mapped[str] = mapped_column(String(16))
    public_jwk: Mapped[Any] = mapped_column(JsonText, nullable=False)
    private_jwe: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class KeptAnswer(AnswerRow, AuthBase):
    """What was answered to an administrator's request that had an Idempotency-Key."""

    __tablename__ = "auth_kept_answers"
