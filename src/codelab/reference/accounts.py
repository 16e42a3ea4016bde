"""Users, clients, refresh tokens and audit logs of the reference's auth-service as records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from codelab.db import now
from codelab.import_records import AuditRecord, ClientRecord, Tally, TokenRecord, UserRecord, derived_id
from codelab.reference.values import as_bool, as_id, as_json, as_number, as_text, as_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from codelab.reference.source import Row, Source

__all__ = ("Accounts",)

_SHA256 = re.compile("[0-9a-f]{64}")
_YEAR = 366 * 86_400


class Accounts:
    """Read the auth database; what cannot be read is told to the tally and left out."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def users(self, tally: Tally) -> list[UserRecord]:
        """Return all users, the oldest first."""
        found = []
        for row in await self._source.rows("SELECT * FROM users ORDER BY created_at, id"):
            tally.of("users").read += 1
            user_id, name, email = as_id(row["id"]), as_text(row["username"]), as_text(row["email"])
            if user_id is None or not name or not email or max(len(name), len(email)) > 255:
                tally.skip("users", name or str(row["id"])[:100], "its id, name or address cannot be kept")
                continue
            created = as_time(row["created_at"]) or now()
            found.append(
                UserRecord(
                    id=user_id,
                    username=name,
                    email=email,
                    password_hash=(as_text(row["password_hash"]) or "")[:255],
                    is_active=as_bool(row["is_active"]),
                    is_verified=as_bool(row["is_verified"]),
                    created_at=created,
                    updated_at=as_time(row["updated_at"]) or created,
                    last_login_at=as_time(row["last_login_at"]),
                )
            )
        return found

    async def clients(self, tally: Tally) -> list[ClientRecord]:
        """Return all clients; one with a secret is confidential whatever its row says."""
        found = []
        for row in await self._source.rows("SELECT * FROM oauth_clients ORDER BY created_at, id"):
            tally.of("clients").read += 1
            row_id, client_id = as_id(row["id"]), as_text(row["client_id"])
            if row_id is None or not client_id or len(client_id) > 255:
                tally.skip("clients", client_id or str(row["id"])[:100], "its id cannot be kept")
                continue
            grants = as_json(row["allowed_grant_types"])
            created = as_time(row["created_at"]) or now()
            found.append(
                ClientRecord(
                    id=row_id,
                    client_id=client_id,
                    name=(as_text(row["name"]) or client_id)[:255],
                    description=as_text(row["description"]),
                    is_confidential=as_bool(row["is_confidential"]) or row["client_secret_hash"] is not None,
                    scopes=tuple((as_text(row["allowed_scopes"]) or "").split()),
                    grant_types=tuple(str(grant) for grant in grants) if isinstance(grants, list) else (),
                    access_token_lifetime=as_number(row["access_token_lifetime"], 900, 10, 86_400),
                    refresh_token_lifetime=as_number(row["refresh_token_lifetime"], 2_592_000, 60, _YEAR),
                    is_active=as_bool(row["is_active"]),
                    created_at=created,
                    updated_at=as_time(row["updated_at"]) or created,
                )
            )
        return found

    async def tokens(self, tally: Tally, *, wanted: bool) -> list[TokenRecord]:
        """Return the refresh tokens that live, and the used ones that they were rotated from."""
        rows = await self._source.rows("SELECT * FROM refresh_tokens ORDER BY created_at, id")
        tally.of("refresh_tokens").read += len(rows)
        at = now()
        kept = {str(row["jti_hash"]): row for row in rows if _is_usable(row)}
        parents = {jti: str(row["parent_jti_hash"] or "") for jti, row in kept.items()}
        roots = {jti: _root(jti, parents) for jti in kept}
        live = {jti for jti, row in kept.items() if _is_live(row, at)}
        families = {roots[jti] for jti in live}
        # A used token of a living family is kept too: when it comes back, the family was stolen.
        chosen = [jti for jti in kept if roots[jti] in families and _expires(kept[jti]) > at]
        if dead := len(rows) - len(chosen):
            tally.skip("refresh_tokens", f"{dead} of them", "revoked, expired or unreadable", rows=dead)
        if chosen and not wanted:
            why = "only the reference's key can prove them: name its folder with --keys"
            tally.skip("refresh_tokens", f"{len(live)} that live", why, rows=len(chosen))
            return []
        return [_token(kept[jti], roots[jti], live=jti in live) for jti in chosen]

    async def audit(self, tally: Tally) -> AsyncIterator[AuditRecord]:
        """Yield the audit logs, the oldest first."""
        async for row in self._source.stream("SELECT * FROM audit_logs ORDER BY created_at, id"):
            tally.of("audit_logs").read += 1
            log_id, at = as_id(row["id"]), as_time(row["created_at"])
            if log_id is None or at is None:
                tally.skip("audit_logs", str(row["id"])[:100], "its id or its time cannot be read")
                continue
            data = as_json(row["event_data"])
            yield AuditRecord(
                id=log_id,
                user_id=as_id(row["user_id"]),
                client_id=(as_text(row["client_id"]) or "")[:255],
                event=(as_text(row["event_type"]) or "unknown")[:50],
                data=data if isinstance(data, dict) else {} if data is None else {"value": data},
                ip_address=as_text(row["ip_address"]),
                user_agent=as_text(row["user_agent"]),
                error=None if as_bool(row["success"]) else as_text(row["error_message"]) or "unknown",
                at=at,
            )


def _is_usable(row: Row) -> bool:
    texts = (row["jti_hash"], row["client_id"], row["scope"])
    return (
        as_id(row["id"]) is not None
        and as_id(row["user_id"]) is not None
        and all(isinstance(text, str) for text in texts)
        and _SHA256.fullmatch(row["jti_hash"]) is not None
        and as_time(row["expires_at"]) is not None
    )


def _expires(row: Row) -> datetime:
    expires = as_time(row["expires_at"])
    assert expires is not None
    return expires


def _is_live(row: Row, at: datetime) -> bool:
    return not as_bool(row["revoked"]) and _expires(row) > at


def _root(jti_hash: str, parents: dict[str, str]) -> str:
    """Follow the chain to the token of the login; a ring ends where it is met again."""
    seen = {jti_hash}
    while (parent := parents.get(jti_hash)) in parents and parent not in seen:
        seen.add(jti_hash := str(parent))
    return jti_hash


def _token(row: Row, root: str, *, live: bool) -> TokenRecord:
    parent = as_text(row["parent_jti_hash"])
    created = as_time(row["created_at"]) or now()
    revoked_at: Any = None if live else as_time(row["revoked_at"]) or created
    return TokenRecord(
        id=str(as_id(row["id"])),
        jti_hash=row["jti_hash"],
        parent_jti_hash=parent if parent and _SHA256.fullmatch(parent) else None,
        family_id=derived_id("family", root),
        user_id=str(as_id(row["user_id"])),
        client_id=str(as_text(row["client_id"])),
        scopes=tuple(row["scope"].split()),
        expires_at=_expires(row),
        revoked_at=revoked_at,
        live=live,
        created_at=created,
    )
