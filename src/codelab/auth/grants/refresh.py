"""The refresh grant (RFC 6749 section 6): each token is good once, and a replay ends its family (RFC 9700).

A client whose answer was lost, or two tabs of one, show a token twice within moments: for a short grace each gets a new
token of the same family. Later, whoever shows a used token may have stolen it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.auth.forms import require
from codelab.auth.grants.issuing import Granted, refuse_grant
from codelab.auth.repository import tokens
from codelab.auth.repository.revocations import end_login
from codelab.auth.scopes import narrow_scope
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import now

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.grants.issuing import Issuing
    from codelab.auth.inherited import InheritedTokens
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.repository.tokens import RefreshRecord, RotatedRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin, TokenAnswer
    from codelab.db import Database, Transaction

__all__ = ("RefreshGrant",)


class RefreshGrant:
    """Exchange a refresh token for new tokens; ``grace`` is how long after its use it may come back."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        issuing: Issuing,
        inherited: InheritedTokens,
        ended: Revocations,
        grace: timedelta,
    ) -> None:
        self._database = database
        self._ended = ended
        self._grace = grace
        self._audit = audit
        self._issuing = issuing
        self._inherited = inherited

    async def __call__(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        """Answer one request.

        Raises:
            OAuthError: the request is refused.
        """
        (shown,) = require(fields, "refresh_token")
        resource = self._issuing.audiences.check(fields.get("resource"))
        proven = self._inherited.verify(shown)
        old_hash = proven.jti_hash if proven else hash_token(shown)
        async with self._database.peek() as session:
            known = await tokens.find_refresh_token(session, old_hash)
        # Another client's token is unknown to this one, so that it learns nothing and harms nobody.
        if known is None or known.client_id != client.client_id or (proven and proven.user_id != known.user_id):
            raise refuse_grant("Invalid refresh token")
        scope = narrow_scope(known.scope, fields["scope"]) if "scope" in fields else known.scope
        refresh_token = new_refresh_token()
        at, stolen = now(), False

        async def unit(transaction: Transaction) -> Granted | None:
            nonlocal stolen
            session = transaction.session
            inherits: RefreshRecord | RotatedRecord | None = await tokens.rotate_refresh_token(
                session, old_hash, client.client_id, at
            )
            if sibling := inherits is None:
                # A token of the reference system is good once, whenever it comes back.
                inherits, stolen = await self._judge_replay(session, old_hash, origin, at, forgiving=proven is None)
            if inherits is None:
                return None
            details: dict[str, Any] = {"scope": scope} | ({"repeated": True} if sibling else {})
            # The successor keeps the whole scope (RFC 6749 section 6); only this access token is narrowed.
            granted = Granted(
                user_id=inherits.user_id,
                scope=inherits.scope,
                resource=inherits.resource or resource,
                auth_time=inherits.auth_time,
                family_id=inherits.family_id,
            )
            await self._issuing.keep(session, client, granted, at, refresh_token, old_hash)
            self._audit.record(
                session,
                "token_refresh",
                origin,
                user_id=inherits.user_id,
                client_id=client.client_id,
                **details,
            )
            return granted

        granted = await self._database.write(unit)
        if granted is None:
            self._ended.note()
            detail = "The refresh token has expired" if known.expires_at <= at else "Invalid refresh token"
            raise refuse_grant(detail, recorded=stolen)
        return self._issuing.tell(client, granted, refresh_token, scope)

    async def _judge_replay(
        self, session: AsyncSession, jti_hash: str, origin: Origin, at: datetime, *, forgiving: bool
    ) -> tuple[RefreshRecord | None, bool]:
        """Decide about a token that could not be used: return it when it is a retry, end its family when stolen.

        The second tells whether it was taken for stolen.
        """
        known = await tokens.find_refresh_token(session, jti_hash)
        if known is None or known.revoked_at is None or not await tokens.is_rotated(session, known.family_id, jti_hash):
            return None, False
        # Without a grace, the clock of a request that came in earlier and is served later must not make one.
        if self._grace and at - known.revoked_at < self._grace:
            alive = known.expires_at > at and known.user_is_active
            alive = alive and await tokens.is_alive(session, known.family_id, at)
            return (known if alive and forgiving else None), False
        ended = await end_login(session, known.family_id, at)
        self._audit.record(
            session,
            "token_reuse",
            origin,
            user_id=known.user_id,
            client_id=known.client_id,
            error="A used refresh token came back; its family was revoked",
            family_id=known.family_id,
            revoked=ended,
        )
        return None, True
