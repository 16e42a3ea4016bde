"""The module's tables as SQLAlchemy Core names them; the repositories write their statements with these."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from codelab.auth.models import (
    AuthorizationCode,
    BrowserSession,
    Consent,
    DeviceCode,
    KeptAnswer,
    OAuthClient,
    RefreshToken,
    RevokedToken,
    SigningKey,
    User,
)
from codelab.auth.people.models import FailureCount, PasswordReset, PersonalToken, RecoveryCode, SecondFactor

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = (
    "answers",
    "browsers",
    "clients",
    "codes",
    "consents",
    "counts",
    "devices",
    "factors",
    "keys",
    "personal",
    "recovery_codes",
    "resets",
    "revoked_ids",
    "tokens",
    "users",
)

# SQLAlchemy says of ``__table__`` only that one can select from it.
answers = cast("Table", KeptAnswer.__table__)
browsers = cast("Table", BrowserSession.__table__)
clients = cast("Table", OAuthClient.__table__)
codes = cast("Table", AuthorizationCode.__table__)
consents = cast("Table", Consent.__table__)
counts = cast("Table", FailureCount.__table__)
devices = cast("Table", DeviceCode.__table__)
factors = cast("Table", SecondFactor.__table__)
keys = cast("Table", SigningKey.__table__)
personal = cast("Table", PersonalToken.__table__)
recovery_codes = cast("Table", RecoveryCode.__table__)
resets = cast("Table", PasswordReset.__table__)
revoked_ids = cast("Table", RevokedToken.__table__)
tokens = cast("Table", RefreshToken.__table__)
users = cast("Table", User.__table__)
