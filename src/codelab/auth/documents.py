"""Clients that describe themselves in a document whose URL is their id (draft-ietf-oauth-client-id-metadata-document).

A document is fetched only for a person who is signed in, kept as a client like one that registered itself, and fetched
again when its time is over.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codelab.auth.authorize.request import Unproven
from codelab.auth.errors import OAuthError
from codelab.auth.recent import Recent
from codelab.auth.registration import ALLOWED, DEFAULT, read_metadata
from codelab.auth.repository import clients
from codelab.db import new_id, now
from codelab.fetching import NotFetched
from codelab.web import read_json

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.clients import KnownClients
    from codelab.auth.registration import Metadata
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction
    from codelab.fetching import Document, Fetcher
    from codelab.settings import AuthSettings

__all__ = ("ClientDocuments", "is_document_url")

#: For how long a document is good, whatever its server says.
SHORTEST, LONGEST = timedelta(minutes=5), timedelta(days=1)
#: Seconds for which one that could not be had is not asked for again.
NEGATIVE = 60.0
#: What a client of this kind can have: it proves nothing but where its answers go.
GRANTS = {"authorization_code", "refresh_token"}
_LONGEST_URL = 255


def is_document_url(client_id: str) -> bool:
    """Tell whether an id can be the URL of a document (section 3): https, with a path, and nothing that hides."""
    try:
        parts = urlsplit(client_id)
        fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = client_id.isascii() and client_id.isprintable() and not set(client_id) & set(' "<>\\^`{|}#')
    steps = parts.path.replace("%2e", ".").replace("%2E", ".").split("/")
    named = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc and parts.path not in {"", "/"}
    return bool(fits and plain and named and len(client_id) <= _LONGEST_URL and not {".", ".."} & set(steps))


class ClientDocuments:
    """Know clients by their documents."""

    def __init__(
        self, database: Database, known: KnownClients, audit: Audit, fetcher: Fetcher, settings: AuthSettings
    ) -> None:
        self._database = database
        self._known = known
        self._audit = audit
        self._fetcher = fetcher
        self._settings = settings
        self._refused: Recent[tuple[float, str]] = Recent()

    async def has_to_be_read(self, client_id: str | None) -> bool:
        """Tell whether a client's document has to be fetched before it is known who asks."""
        if not self._settings.client_documents or client_id is None or not is_document_url(client_id):
            return False
        async with self._database.read() as session:
            expires_at = await clients.find_document_expiry(session, client_id)
        return expires_at is None or expires_at <= now()

    async def read(self, client_id: str, origin: Origin) -> None:
        """Fetch a client's document and keep what it says.

        Raises:
            Unproven: it cannot be had, or does not describe this client.
        """
        refused = self._refused.get(client_id)
        if refused is not None and time.monotonic() - refused[0] < NEGATIVE:
            raise Unproven(refused[1], code="unknown_client")
        try:
            document = await self._fetcher.fetch(client_id)
            said = _read(client_id, document)
        except (NotFetched, OAuthError) as error:
            detail = f"client_id: its document was not taken: {error}"
            self._refused.put(client_id, (time.monotonic(), detail))
            raise Unproven(detail, code="unknown_client") from None
        self._refused.drop(client_id)
        await self._keep(client_id, said, document, origin)

    async def _keep(self, client_id: str, said: Metadata, document: Document, origin: Origin) -> None:
        at = now()
        age = timedelta(seconds=document.max_age or 0)
        scope = said.scope or " ".join(ALLOWED)
        told = {
            "name": said.name or urlsplit(client_id).netloc,
            "redirect_uris": said.redirect_uris,
            "post_logout_redirect_uris": said.post_logout_redirect_uris,
            "allowed_grant_types": said.grant_types,
            "allowed_scopes": scope,
            "default_scopes": said.scope or DEFAULT,
            "client_uri": said.client_uri,
        }
        always = {
            "id": new_id(),
            "client_id": client_id,
            "client_secret_hash": None,
            "is_confidential": False,
            "token_endpoint_auth_method": "none",
            "is_registered": True,
            "access_token_lifetime": self._settings.access_token_lifetime,
            "refresh_token_lifetime": self._settings.refresh_token_lifetime,
            "is_active": True,
            "created_at": at,
            "updated_at": at,
        }

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            before = await clients.find_client_row(session, client_id)
            await clients.insert_client_if_absent(session, **always, **told)
            until = at + min(max(age, SHORTEST), LONGEST)
            await clients.change_client(session, client_id, at, document_expires_at=until, **told)
            after = await clients.find_client_row(session, client_id)
            if before != after:
                uris = " ".join(said.redirect_uris)
                self._audit.record(
                    session,
                    "client_registered",
                    origin,
                    user_id=None,
                    client_id=client_id,
                    name=told["name"],
                    redirect_uris=uris,
                )

        await self._database.write(unit)
        self._known.note()


def _read(client_id: str, document: Document) -> Metadata:
    """Read a document (section 4.1).

    Raises:
        OAuthError: it is of another client, or one that has to keep a secret.
    """
    said = read_metadata(document.body, methods=("none",))
    members = read_json(document.body)
    if members.get("client_id") != client_id:
        raise OAuthError("client_id is another one there")
    if "client_secret" in members or "client_secret_expires_at" in members:
        raise OAuthError("it shows a secret")
    grants = [grant for grant in said.grant_types if grant in GRANTS]
    if "authorization_code" not in grants:
        raise OAuthError("grant_types: must have authorization_code")
    return said._replace(grant_types=grants)
