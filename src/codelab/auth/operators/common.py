"""What the services of operators share: who acts, and the check of what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from codelab.errors import BadRequest
from codelab.text import reject_unstorable

if TYPE_CHECKING:
    from codelab.auth.schemas import Origin

__all__ = ("Actor", "check_text")


class Actor(NamedTuple):
    """Who acts, as the audit trail names them, and where the request came from."""

    by: str
    origin: Origin

    @property
    def said(self) -> dict[str, Any]:
        """What each row of the audit trail says of them."""
        return {"by": self.by}


def check_text(value: str, field: str, longest: int = 255) -> str:
    """Return a text that people can read: visible characters only, and no blank at its ends.

    Raises:
        BadRequest: it is none, or too long.
    """
    reject_unstorable(value, field)
    if not value or len(value) > longest or not value.isprintable() or value != value.strip():
        raise BadRequest(f"{field}: must have 1 to {longest} visible characters", field=field)
    return value
