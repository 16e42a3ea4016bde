"""What all grants do in the end: keep what has to be found again, and make the tokens of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from codelab.auth.errors import OAuthError
from codelab.auth.repository.clients import note_first_use
from codelab.auth.repository.tokens import insert_refresh_token
from codelab.auth.schemas import TokenAnswer
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.resources import Audiences
    from codelab.auth.tokens import AccessTokens

__all__ = ("Granted", "Issuing", "refuse_grant")


def refuse_grant(detail: str, *, recorded: bool = False) -> OAuthError:
    """Make the error for a grant that is not valid (any more)."""
    error = OAuthError(detail, code="invalid_grant")
    error.recorded = recorded
    return error


@dataclass(frozen=True, kw_only=True)
class Granted:
    """Say what a client may do, and for whom; all tokens of a family say so.

    ``user_id`` is None when the client acts for itself. ``resource`` is the audience that was asked for, ``nonce`` what
    the client gave with its authorization request.
    """

    user_id: str | None
    scope: str
    resource: str | None = None
    auth_time: datetime | None = None
    nonce: str | None = None
    family_id: str = field(default_factory=new_id)


class Issuing:
    """Make the tokens of an answer."""

    def __init__(self, tokens: AccessTokens, audiences: Audiences) -> None:
        self._tokens = tokens
        self.audiences = audiences

    async def keep(
        self,
        session: AsyncSession,
        client: ClientRecord,
        granted: Granted,
        at: datetime,
        refresh_token: str | None,
        parent_jti_hash: str | None = None,
    ) -> None:
        """Keep a person's login with its refresh token, and that the client is in use.

        A login without a refresh token is kept under one that nobody knows, for as long as its access token lives: so
        it ends with all others of its person or client.
        """
        if client.is_registered and client.last_used_at is None:
            await note_first_use(session, client.client_id, at)
        if granted.user_id is None:
            return
        lifetime = client.access_token_lifetime if refresh_token is None else client.refresh_token_lifetime
        await insert_refresh_token(
            session,
            id=new_id(),
            jti_hash=hash_token(refresh_token or new_refresh_token()),
            family_id=granted.family_id,
            parent_jti_hash=parent_jti_hash,
            user_id=granted.user_id,
            client_id=client.client_id,
            scope=granted.scope,
            resource=granted.resource,
            auth_time=granted.auth_time,
            expires_at=at + timedelta(seconds=lifetime),
            revoked=False,
            created_at=at,
        )

    def tell(
        self, client: ClientRecord, granted: Granted, refresh_token: str | None, scope: str | None = None
    ) -> TokenAnswer:
        """Answer a request; ``scope`` narrows this access token alone."""
        lifetime, scope = client.access_token_lifetime, scope or granted.scope
        access_token = self._tokens.issue(
            user_id=granted.user_id or client.client_id,
            client_id=client.client_id,
            scope=scope,
            lifetime=lifetime,
            audience=self.audiences.of(granted.resource),
            family_id=granted.family_id if granted.user_id else None,
        )
        answer = TokenAnswer(access_token=access_token, expires_in=lifetime, scope=scope)
        if refresh_token is not None:
            answer.refresh_token = refresh_token
        if granted.user_id and "openid" in scope.split():
            answer.id_token = self._tokens.issue_id_token(
                user_id=granted.user_id,
                client_id=client.client_id,
                access_token=access_token,
                lifetime=lifetime,
                auth_time=granted.auth_time,
                nonce=granted.nonce,
            )
        return answer
