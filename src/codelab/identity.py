"""Who is calling, and what they may do. The one thing that module ``auth`` gives and module ``agent`` takes."""

from __future__ import annotations

import msgspec

from codelab.errors import Forbidden

__all__ = ("SCOPES", "Principal", "challenge")

#: Every scope that codelab knows, with what it permits (RFC 6749 section 3.3).
SCOPES = {
    "api:read": "read your sessions",
    "api:write": "create sessions and send messages and tool results",
    "approvals:decide": "decide what agents may do",
    "api:admin": "administer this server",
}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Name a caller whose identity was proven.

    ``subject`` is the stable id of the person (the ``sub`` of RFC 9068), ``client_id`` the OAuth client that acts for
    them, ``expires_at`` when the proof ends, in seconds since the epoch (None: never by itself). ``proof_ids`` are ids
    of what was shown: when one of them is revoked, the proof ends.
    """

    subject: str
    username: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float | None = None
    proof_ids: tuple[str, ...] = ()

    def require(self, scope: str) -> None:
        """Raise ``Forbidden`` when the token lacks a scope (RFC 6750 ``insufficient_scope``)."""
        if scope not in self.scopes:
            raise Forbidden(
                f"The access token lacks the scope {scope}.",
                code="insufficient_scope",
                headers=challenge("insufficient_scope", scope=scope),
            )


def challenge(error: str | None = None, description: str | None = None, scope: str | None = None) -> dict[str, str]:
    """Build the ``WWW-Authenticate`` header of RFC 6750 section 3."""
    parts = {"error": error, "error_description": description, "scope": scope}
    params = ", ".join(f'{name}="{value}"' for name, value in parts.items() if value)
    return {"WWW-Authenticate": f"Bearer {params}".rstrip()}
