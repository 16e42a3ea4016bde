"""Who the asking program is, and what it may ask for."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from codelab.auth.errors import InvalidClient, OAuthError
from codelab.auth.repository import clients
from codelab.auth.scopes import narrow_scope
from codelab.auth.tokens import hash_token

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.forms import ClientCredentials
    from codelab.auth.repository.clients import ClientRecord

__all__ = ("authenticate_client", "check_grant", "grant_scope")


async def authenticate_client(session: AsyncSession, credentials: ClientCredentials) -> ClientRecord:
    """Find the client and check its secret; what a public client sends as one is ignored.

    Raises:
        InvalidClient: unknown, a confidential client without its secret, or one that shows it in another way than it
            registered for.
        OAuthError: the client is disabled (``invalid_grant``).
    """
    client = await clients.find_client(session, credentials.client_id)
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
