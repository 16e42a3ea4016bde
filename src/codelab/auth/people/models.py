"""Tables of what guards people's accounts; they are part of the module's metadata."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.auth.models import AuthBase
from codelab.db import UtcDateTime, new_id, now

__all__ = ("FailureCount", "PasswordReset", "PersonalToken", "RecoveryCode", "SecondFactor")


class PasswordReset(AuthBase):
    """A link with which a person chooses a new password, once; known only by its SHA-256."""

    __tablename__ = "password_resets"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class PersonalToken(AuthBase):
    """A token that a person made for a program of theirs; known only by its SHA-256."""

    __tablename__ = "personal_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    token_hash: Mapped[str] = mapped_column(String(64), index=True, unique=True)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    scope: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class FailureCount(AuthBase):
    """Wrong passwords and codes of one address, or of one address about one account; the id is a hash of these.

    ``failures`` happened from ``since`` on; ``waits`` is how often they led to a wait, the last until
    ``blocked_until``.
    """

    __tablename__ = "failure_counts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    waits: Mapped[int] = mapped_column(Integer)
    blocked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class SecondFactor(AuthBase):
    """What an authenticator app shares with this server (RFC 6238); it counts once it is confirmed.

    ``secret_jwe`` is encrypted with the key of the key file. ``last_step`` is the last one whose code was taken.
    """

    __tablename__ = "second_factors"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True, unique=True
    )
    secret_jwe: Mapped[str] = mapped_column(Text)
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RecoveryCode(AuthBase):
    """A code that stands in for the authenticator app once; known only by its SHA-256."""

    __tablename__ = "recovery_codes"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(String(36), ForeignKey("users.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
