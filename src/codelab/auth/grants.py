"""The grants of the token endpoint: rules, and one unit of work each."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from codelab.auth.clients import authenticate_client, check_grant, grant_scope, narrow_scope
from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.forms import read_client_credentials, require
from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.auth.repository import tokens, users
from codelab.auth.schemas import TokenAnswer
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.inherited import InheritedTokens
    from codelab.auth.passwords import Passwords
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.repository.tokens import RotatedRecord
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.schemas import Origin
    from codelab.auth.tokens import AccessTokens
    from codelab.db import Database, Transaction

__all__ = ("REPLAY_SECONDS", "Grants")

#: A used refresh token that comes back sooner is a retry or a race of its owner, later it is taken for stolen.
REPLAY_SECONDS = 10

logger = logging.getLogger(__name__)


class Grants:
    """Answer token requests (RFC 6749 sections 4.3 and 6)."""

    def __init__(
        self,
        database: Database,
        tokens: AccessTokens,
        passwords: Passwords,
        inherited: InheritedTokens,
        audit: Audit,
    ) -> None:
        self._database = database
        self._audit = audit
        self._tokens = tokens
        self._passwords = passwords
        self._inherited = inherited
        self._grants = {"password": self._password, "refresh_token": self._refresh}

    async def answer(self, fields: dict[str, str], authorization: str | None, origin: Origin) -> TokenAnswer:
        """Answer one token request.

        Raises:
            OAuthError: the request is refused.
            Unavailable: too many logins wait, or the server is stopping.
        """
        (grant_type,) = require(fields, "grant_type")
        credentials = read_client_credentials(fields, authorization)
        grant = self._grants.get(grant_type)
        if grant is None:
            raise OAuthError(f"Grant type '{grant_type[:100]}' is not supported", code="unsupported_grant_type")
        async with self._database.read() as session:
            client = await authenticate_client(session, credentials)
        check_grant(client, grant_type)
        return await grant(client, fields, origin)

    async def _password(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        login, password = require(fields, "username", "password")
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            raise OAuthError(f"password: must be at most {MAX_PASSWORD_BYTES} bytes", field="password")
        scope = grant_scope(client, fields.get("scope"))
        user, right = None, False
        # Twice: another login may have renewed the hash meanwhile, or somebody may have changed the password.
        for _ in range(2):
            async with self._database.read() as session:
                user = await users.find_user_by_login(session, login)
                with_bcrypt = await users.has_bcrypt_hashes(session)
            # No transaction is open while argon2 runs. Nobody can tell from the time whether the name exists.
            stored = user.password_hash if user else None
            right, new_hash = await self._passwords.verify(password, stored, with_bcrypt=with_bcrypt)
            if user is None or not right or not user.is_active:
                break
            refresh_token = new_refresh_token() if "refresh_token" in client.allowed_grant_types else None
            if await self._log_in(client, user, new_hash, refresh_token, scope, origin):
                return self._tell(client, user.id, scope, refresh_token)
        await self._note_failure(client, user, login, origin, right=right)
        raise WrongCredentials

    async def _log_in(
        self,
        client: ClientRecord,
        user: UserRecord,
        new_hash: str | None,
        refresh_token: str | None,
        scope: str,
        origin: Origin,
    ) -> bool:
        """Keep a login; False when the user is not any more what the password was compared with."""
        at = now()

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            if not await users.record_login(session, user, at, new_hash):
                return False
            if refresh_token is not None:
                await self._keep(session, client, refresh_token, user_id=user.id, scope=scope, at=at)
            self._audit.record(
                session, "login_success", origin, user_id=user.id, client_id=client.client_id, scope=scope
            )
            return True

        return await self._database.write(unit)

    async def _note_failure(
        self, client: ClientRecord, user: UserRecord | None, login: str, origin: Origin, *, right: bool
    ) -> None:
        reason = "unknown_user" if user is None else "disabled_or_changed" if right else "wrong_password"

        async def unit(transaction: Transaction) -> None:
            self._audit.record(
                transaction.session,
                "login_failed",
                origin,
                user_id=user.id if user else None,
                client_id=client.client_id,
                error="Invalid username or password",
                username=login,
                reason=reason,
            )

        await self._database.write(unit)

    async def _refresh(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        (shown,) = require(fields, "refresh_token")
        proven = self._inherited.verify(shown)
        old_hash = proven.jti_hash if proven else hash_token(shown)
        async with self._database.read() as session:
            known = await tokens.find_refresh_token(session, old_hash)
        # Another client's token is unknown to this one, so that it learns nothing and harms nobody.
        if known is None or known.client_id != client.client_id or (proven and proven.user_id != known.user_id):
            raise _invalid_grant("Invalid refresh token")
        scope = narrow_scope(known.scope, fields["scope"]) if "scope" in fields else known.scope
        refresh_token = new_refresh_token()
        at = now()

        async def unit(transaction: Transaction) -> RotatedRecord | None:
            session = transaction.session
            rotated = await tokens.rotate_refresh_token(session, old_hash, client.client_id, at)
            if rotated is None:
                await self._judge_replay(session, client, old_hash, origin, at)
                return None
            # The successor keeps the whole scope (RFC 6749 section 6); only this access token is narrowed.
            await self._keep(
                session,
                client,
                refresh_token,
                user_id=rotated.user_id,
                scope=rotated.scope,
                at=at,
                family_id=rotated.family_id,
                parent_jti_hash=old_hash,
            )
            self._audit.record(
                session, "token_refresh", origin, user_id=rotated.user_id, client_id=client.client_id, scope=scope
            )
            return rotated

        rotated = await self._database.write(unit)
        if rotated is None:
            raise _invalid_grant("The refresh token has expired" if known.expires_at <= at else "Invalid refresh token")
        return self._tell(client, rotated.user_id, scope, refresh_token)

    async def _judge_replay(
        self, session: AsyncSession, client: ClientRecord, jti_hash: str, origin: Origin, at: datetime
    ) -> None:
        """Revoke the family when a token comes back long after it was rotated."""
        known = await tokens.find_refresh_token(session, jti_hash)
        if known is None or known.revoked_at is None or at - known.revoked_at <= timedelta(seconds=REPLAY_SECONDS):
            return
        if not await tokens.is_rotated(session, known.family_id, jti_hash):
            return
        ended = await tokens.revoke_family(session, known.family_id, at)
        self._audit.record(
            session,
            "token_reuse",
            origin,
            user_id=known.user_id,
            client_id=client.client_id,
            error="A used refresh token came back; its family was revoked",
            family_id=known.family_id,
            revoked=ended,
        )

    async def _keep(
        self,
        session: AsyncSession,
        client: ClientRecord,
        token: str,
        *,
        user_id: str,
        scope: str,
        at: datetime,
        **inherited: Any,
    ) -> None:
        await tokens.insert_refresh_token(
            session,
            **{
                "id": new_id(),
                "jti_hash": hash_token(token),
                "family_id": new_id(),
                "user_id": user_id,
                "client_id": client.client_id,
                "scope": scope,
                "expires_at": at + timedelta(seconds=client.refresh_token_lifetime),
                "revoked": False,
                "created_at": at,
            }
            | inherited,
        )

    def _tell(self, client: ClientRecord, user_id: str, scope: str, refresh_token: str | None) -> TokenAnswer:
        lifetime = client.access_token_lifetime
        access_token = self._tokens.issue(user_id=user_id, client_id=client.client_id, scope=scope, lifetime=lifetime)
        answer = TokenAnswer(access_token=access_token, expires_in=lifetime, scope=scope)
        if refresh_token is not None:
            answer.refresh_token = refresh_token
        return answer


def _invalid_grant(detail: str) -> OAuthError:
    return OAuthError(detail, code="invalid_grant")
