"""Who the asking program is, and what it may ask for."""

from __future__ import annotations

import contextlib
import hmac
import time
from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.errors import InvalidClient, OAuthError
from codelab.auth.recent import Recent
from codelab.auth.repository import clients
from codelab.auth.scopes import narrow_scope
from codelab.auth.tokens import hash_token

if TYPE_CHECKING:
    from codelab.auth.forms import ClientCredentials
    from codelab.auth.repository.clients import ClientRecord
    from codelab.db import Database

__all__ = ("KnownClients", "check_grant", "grant_scope")

#: Seconds for which an answer of the database is good.
_MAX_AGE = 1.0


class _Known(NamedTuple):
    at: float
    generation: int
    client: ClientRecord


class KnownClients:
    """Prove clients; what other processes changed counts within a second, what this one changed at once.

    Nobody is refused by what was remembered: a new secret is good, and a client enabled again let in, at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._generation = 0
        self._known: Recent[_Known] = Recent()

    def note(self) -> None:
        """Take note that this process has committed a change of a client: what was known before is asked anew."""
        self._generation += 1

    async def authenticate(self, credentials: ClientCredentials) -> ClientRecord:
        """Find the client and check its secret; what a public client sends as one is ignored.

        Raises:
            InvalidClient: unknown, a confidential client without its secret, or one that shows it in another way than
                it registered for.
            OAuthError: the client is disabled (``invalid_grant``).
        """
        if (client := self._remember(credentials.client_id)) is not None:
            with contextlib.suppress(OAuthError):
                return _check(client, credentials)
        return _check(await self._look_up(credentials.client_id), credentials)

    async def is_active(self, client_id: str) -> bool:
        """Tell whether a client is there and not disabled, so that what it was given before is good."""
        client = self._remember(client_id)
        if client is None or not client.is_active:
            client = await self._look_up(client_id)
        return client is not None and client.is_active

    def _remember(self, client_id: str) -> ClientRecord | None:
        known = self._known.get(client_id)
        if known is None or known.generation != self._generation or time.monotonic() - known.at >= _MAX_AGE:
            return None
        return known.client

    async def _look_up(self, client_id: str) -> ClientRecord | None:
        # Both are read before the database, so that an answer from before a change is not taken for a later one.
        at, generation = time.monotonic(), self._generation
        async with self._database.peek() as session:
            client = await clients.find_client(session, client_id)
        if client is not None:
            self._known.put(client_id, _Known(at, generation, client))
        return client


def _check(client: ClientRecord | None, credentials: ClientCredentials) -> ClientRecord:
    if client is None:
        raise InvalidClient("Unknown client")
    if client.is_confidential or client.client_secret_hash is not None:
        shown = hash_token(credentials.secret or "")
        if not hmac.compare_digest(shown, client.client_secret_hash or ""):
            raise InvalidClient("The client's secret is missing or wrong")
    if client.token_endpoint_auth_method not in {None, credentials.method}:
        raise InvalidClient(f"The client is registered for {client.token_endpoint_auth_method}")
    if not client.is_active:
        raise OAuthError("The client is disabled", code="invalid_grant")
    return client


def check_grant(client: ClientRecord, grant_type: str) -> None:
    """Refuse a grant that the client does not have.

    Raises:
        OAuthError: ``unauthorized_client``.
    """
    if grant_type not in client.allowed_grant_types:
        raise OAuthError(f"The client may not use grant type '{grant_type}'", code="unauthorized_client")


def grant_scope(client: ClientRecord, requested: str | None) -> str:
    """Decide the scope of a new grant: what is asked, or else the client's default.

    Raises:
        OAuthError: ``invalid_scope``.
    """
    return narrow_scope(client.allowed_scopes, requested) if requested else client.default_scopes
