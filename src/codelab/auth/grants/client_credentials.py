"""The client credentials grant (RFC 6749 section 4.4): a program that acts for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.auth.clients import grant_scope
from codelab.auth.errors import OAuthError
from codelab.auth.grants.issuing import Granted
from codelab.auth.scopes import ABOUT_PEOPLE, without_people
from codelab.db import now

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.grants.issuing import Issuing
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.schemas import Origin, TokenAnswer
    from codelab.db import Database, Transaction

__all__ = ("ClientCredentialsGrant",)


class ClientCredentialsGrant:
    """Give a confidential client an access token of its own; never a refresh token (section 4.4.3)."""

    def __init__(self, database: Database, audit: Audit, issuing: Issuing) -> None:
        self._database = database
        self._audit = audit
        self._issuing = issuing

    async def __call__(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        """Answer one request.

        Raises:
            OAuthError: the request is refused.
        """
        if client.client_secret_hash is None:
            raise OAuthError("Only a client with a secret may act for itself", code="unauthorized_client")
        asked = fields.get("scope")
        scope = grant_scope(client, asked)
        if asked and (personal := set(scope.split()) & set(ABOUT_PEOPLE)):
            detail = f"Scope about a person, and there is none: {' '.join(sorted(personal))}"
            raise OAuthError(detail, code="invalid_scope", field="scope")
        resource = self._issuing.audiences.check(fields.get("resource"))
        granted = Granted(user_id=None, scope=without_people(scope), resource=resource)
        at = now()

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            await self._issuing.keep(session, client, granted, at, None)
            self._audit.record(
                session, "client_login", origin, user_id=None, client_id=client.client_id, scope=granted.scope
            )

        await self._database.write(unit)
        return self._issuing.tell(client, granted, None)
