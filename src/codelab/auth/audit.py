"""The audit trail: what matters for security, written in the same transaction as the change itself.

Never a password, a secret or a token: only ids, names and scopes. The rows are chained with a key that is not in the
database, so that nobody who has only the database can change, remove or add one unnoticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from codelab.audit_trail import ChainedTrail
from codelab.auth.repository import audit
from codelab.db import new_id, now
from codelab.db.chain import ChainKey
from codelab.text import scrub

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from joserfc.jwk import OctKey
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.schemas import Origin
    from codelab.db import Database

__all__ = ("Audit", "Event", "Past", "chain_key", "describe")

Event = Literal[
    "client_created",
    "client_deleted",
    "client_disabled",
    "client_enabled",
    "client_login",
    "client_refused",
    "client_registered",
    "client_secret_rotated",
    "code_exchanged",
    "code_reuse",
    "consent_denied",
    "consent_given",
    "consent_remembered",
    "consent_removed",
    "device_allowed",
    "device_denied",
    "device_login",
    "grant_refused",
    "key_made",
    "key_retired",
    "login_failed",
    "login_success",
    "login_throttled",
    "logout",
    "password_changed",
    "password_reset",
    "personal_token_ended",
    "personal_token_made",
    "reset_link_made",
    "second_factor_removed",
    "second_factor_set",
    "token_refresh",
    "token_reuse",
    "token_revoke",
    "user_created",
    "user_deleted",
    "user_disabled",
    "user_enabled",
]

_MAX_TEXT = 512
_MAX_ADDRESS = 45


class Past(NamedTuple):
    """The id and the time of what happened earlier, in another system, and is recorded only now."""

    id: str
    at: datetime


def chain_key(key: OctKey) -> ChainKey:
    """Derive the key of the chain from the one in the key file."""
    return ChainKey(key.raw_value, "auth.audit")


class Audit(ChainedTrail):
    """Write the audit trail."""

    def __init__(self, database: Database, key_file: Path) -> None:
        super().__init__(database, key_file, audit.AUDIT, chain_key)

    def record(
        self,
        session: AsyncSession,
        event: Event,
        origin: Origin,
        *,
        user_id: str | None,
        client_id: str | None,
        error: str | None = None,
        **data: Any,
    ) -> None:
        """Write one row; ``error`` is None for a success. Text that a caller chose is cut to 512 characters."""
        row = describe(event, origin, user_id=user_id, client_id=client_id, error=error, **data)
        audit.insert_audit_log(session, self.chain, **row)


def describe(
    event: Event,
    origin: Origin,
    *,
    user_id: str | None,
    client_id: str | None,
    error: str | None = None,
    past: Past | None = None,
    **data: Any,
) -> dict[str, Any]:
    """Return the columns of a row, without those of the chain."""
    details = {name: _cut(value) for name, value in data.items()}
    if origin.request_id:
        details["request_id"] = _cut(origin.request_id)
    return {
        "id": past.id if past else new_id(),
        "user_id": user_id,
        "client_id": client_id,
        "event_type": event,
        "event_data": details or None,
        "ip_address": origin.ip_address[:_MAX_ADDRESS] if origin.ip_address else None,
        "user_agent": _cut(origin.user_agent) if origin.user_agent else None,
        "success": error is None,
        "error_message": error,
        "created_at": past.at if past else now(),
    }


def _cut(value: Any) -> Any:
    return scrub(value[:_MAX_TEXT]) if isinstance(value, str) else value
