"""What a token is (RFC 7662), and its end before its time (RFC 7009)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codelab.auth.errors import InvalidClient
from codelab.auth.forms import read_client_credentials, require
from codelab.auth.grants.issuing import refuse_grant
from codelab.auth.repository import revocations, tokens, users
from codelab.auth.schemas import UserInfo
from codelab.auth.tokens import hash_token, ids_of, refuse
from codelab.db import now
from codelab.errors import Unauthenticated

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.clients import KnownClients
    from codelab.auth.inherited import InheritedTokens
    from codelab.auth.refusals import Refusals
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.repository.tokens import RefreshRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin
    from codelab.auth.tokens import AccessTokens
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("Introspection",)

_COPIED = ("scope", "client_id", "exp", "iat", "nbf", "sub", "aud", "iss", "jti")


class Introspection:
    """Describe tokens to those who are shown them, and end them for those who hold them."""

    def __init__(
        self,
        database: Database,
        clients: KnownClients,
        audit: Audit,
        access_tokens: AccessTokens,
        inherited: InheritedTokens,
        ended: Revocations,
        refusals: Refusals,
    ) -> None:
        self._database = database
        self._clients = clients
        self._audit = audit
        self._access_tokens = access_tokens
        self._inherited = inherited
        self._ended = ended
        self._refusals = refusals

    async def describe(
        self,
        fields: dict[str, str],
        authorization: str | None,
        origin: Origin,
    ) -> dict[str, Any]:
        """Describe a token to a client with a secret; all that is not good now is ``{"active": false}``.

        Raises:
            OAuthError: the request is refused.
        """
        client = await self._client(fields, authorization, origin)
        if client.client_secret_hash is None:
            raise InvalidClient("Only a client with a secret may ask what a token is")
        (token,) = require(fields, "token")
        if (claims := self._read_access(token)) is not None:
            return await self._describe_access(claims)
        if (found := await self._find_refresh(token)) is not None:
            return await self._describe_refresh(found)
        return {"active": False}

    async def revoke(self, fields: dict[str, str], authorization: str | None, origin: Origin) -> dict[str, Any]:
        """End a token of the client that asks: an access token alone, or a refresh token with its whole login.

        What is no token, or has ended already, is no error (RFC 7009 section 2.2).

        Raises:
            OAuthError: the request is refused, or the token is another client's (``invalid_grant``).
        """
        client = await self._client(fields, authorization, origin)
        (token,) = require(fields, "token")
        if (claims := self._read_access(token)) is not None:
            await self._end_access(client, claims, origin)
        elif (found := await self._find_refresh(token)) is not None:
            await self._end_refresh(client, found, origin)
        return {}

    async def tell_person(self, principal: Principal) -> UserInfo:
        """Say who logged in, as far as the scopes of their token go.

        Raises:
            Unauthenticated: they are gone.
        """
        async with self._database.peek() as session:
            user = await users.find_user_by_id(session, principal.subject)
        if user is None:
            raise refuse("The access token is not valid.")
        said = UserInfo(sub=user.id)
        if "profile" in principal.scopes:
            said.preferred_username = user.username
        if "email" in principal.scopes:
            said.email, said.email_verified = user.email, user.is_verified
        return said

    async def _client(self, fields: dict[str, str], authorization: str | None, origin: Origin) -> ClientRecord:
        credentials = read_client_credentials(fields, authorization)
        async with self._refusals.recorded(credentials.client_id, origin):
            return await self._clients.authenticate(credentials)

    def _read_access(self, token: str) -> dict[str, Any] | None:
        try:
            return self._access_tokens.verify(token)
        except Unauthenticated:
            return None

    async def _find_refresh(self, token: str) -> RefreshRecord | None:
        proven = self._inherited.verify(token)
        jti_hash = proven.jti_hash if proven else hash_token(token)
        async with self._database.peek() as session:
            found = await tokens.find_refresh_token(session, jti_hash)
        if found is None or (proven and proven.user_id != found.user_id):
            return None
        return found

    async def _describe_access(self, claims: dict[str, Any]) -> dict[str, Any]:
        if await self._ended.ended(ids_of(claims)) or not await self._clients.is_active(claims["client_id"]):
            return {"active": False}
        said = {name: claims[name] for name in _COPIED if name in claims}
        if claims["sub"] == claims["client_id"]:
            return {"active": True, **said, "token_type": "Bearer"}
        async with self._database.peek() as session:
            user = await users.find_user_by_id(session, claims["sub"])
        if user is None or not user.is_active:
            return {"active": False}
        return {"active": True, **said, "username": user.username, "token_type": "Bearer"}

    async def _describe_refresh(self, found: RefreshRecord) -> dict[str, Any]:
        if found.revoked or found.expires_at <= now() or not await self._clients.is_active(found.client_id):
            return {"active": False}
        async with self._database.peek() as session:
            user = await users.find_user_by_id(session, found.user_id)
        if user is None or not user.is_active:
            return {"active": False}
        return {
            "active": True,
            "scope": found.scope,
            "client_id": found.client_id,
            "username": user.username,
            "sub": found.user_id,
            "exp": int(found.expires_at.timestamp()),
            "iss": self._access_tokens.issuer,
        }

    async def _end_access(self, client: ClientRecord, claims: dict[str, Any], origin: Origin) -> None:
        if claims["client_id"] != client.client_id:
            raise refuse_grant("The token is another client's")
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        subject = claims["sub"] if claims["sub"] != client.client_id else None

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            if await revocations.insert_revoked(session, claims["jti"], expires_at):
                self._audit.record(
                    session,
                    "token_revoke",
                    origin,
                    user_id=subject,
                    client_id=client.client_id,
                    token="access",  # noqa: S106 - the kind of it
                    jti=claims["jti"],
                )

        await self._database.write(unit)
        self._ended.note()

    async def _end_refresh(self, client: ClientRecord, record: RefreshRecord, origin: Origin) -> None:
        if record.client_id != client.client_id:
            raise refuse_grant("The token is another client's")
        at = now()

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            if await revocations.end_login(session, record.family_id, at):
                self._audit.record(
                    session,
                    "token_revoke",
                    origin,
                    user_id=record.user_id,
                    client_id=client.client_id,
                    token="refresh",  # noqa: S106 - the kind of it
                    family_id=record.family_id,
                )

        await self._database.write(unit)
        self._ended.note()
