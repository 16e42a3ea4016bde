"""The audit trail: what matters for security, written in the same unit of work as the change itself.

Never a password, a secret or a token: only ids, names and scopes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from codelab.auth import repository
from codelab.db import new_id, now
from codelab.text import scrub

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.schemas import Origin

__all__ = ("Event", "Past", "record")

Event = Literal["login_success", "login_failed", "token_refresh", "token_reuse"]

_MAX_TEXT = 512
_MAX_ADDRESS = 45


class Past(NamedTuple):
    """The id and the time of what happened earlier, in another system, and is recorded only now."""

    id: str
    at: datetime


async def record(
    session: AsyncSession,
    event: Event,
    origin: Origin,
    *,
    user_id: str | None,
    client_id: str,
    error: str | None = None,
    past: Past | None = None,
    **data: Any,
) -> None:
    """Write one row; ``error`` is None for a success. Text that a caller chose is cut to 512 characters."""
    details = {name: _cut(value) for name, value in data.items()}
    if origin.request_id:
        details["request_id"] = _cut(origin.request_id)
    await repository.insert_audit_log(
        session,
        id=past.id if past else new_id(),
        user_id=user_id,
        client_id=client_id,
        event_type=event,
        event_data=details or None,
        ip_address=origin.ip_address[:_MAX_ADDRESS] if origin.ip_address else None,
        user_agent=_cut(origin.user_agent) if origin.user_agent else None,
        success=error is None,
        error_message=error,
        created_at=past.at if past else now(),
    )


def _cut(value: Any) -> Any:
    return scrub(value[:_MAX_TEXT]) if isinstance(value, str) else value
