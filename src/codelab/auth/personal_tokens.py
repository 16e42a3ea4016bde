"""Personal access tokens: what a person gives a program that cannot log in. They read and write, and decide nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from codelab.auth.errors import OAuthError
from codelab.auth.repository import personal_tokens
from codelab.auth.repository.revocations import insert_revoked
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from collections.abc import Collection

    from codelab.auth.audit import Audit
    from codelab.auth.repository.personal_tokens import TokenRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction

__all__ = ("DAYS", "PERSONAL_CLIENT_ID", "PERSONAL_PREFIX", "PERSONAL_SCOPES", "PersonalTokens")

PERSONAL_PREFIX = "codelab_pat_"
#: The client that such a token speaks for.
PERSONAL_CLIENT_ID = "codelab-pat"
PERSONAL_SCOPES = ("api:read", "api:write")
#: How long they may live.
DAYS = (7, 30, 90, 365)
#: Tokens that one person may have.
MOST_TOKENS = 50


class PersonalTokens:
    """Make, find and end personal access tokens; what was used is noted in batches."""

    def __init__(self, database: Database, audit: Audit, ended: Revocations) -> None:
        self._database = database
        self._audit = audit
        self._ended = ended
        self._used: dict[str, datetime] = {}

    async def create(self, user_id: str, name: str, scopes: Collection[str], days: int, origin: Origin) -> str:
        """Return a new token, which is not shown again.

        Raises:
            OAuthError: it has no name, another scope or life than there are, or there are too many.
        """
        if not name.strip() or len(name) > 100:
            raise OAuthError("name: must have 1 to 100 characters", field="name")
        if not scopes or set(scopes) - set(PERSONAL_SCOPES):
            raise OAuthError("scope: must be of api:read and api:write", code="invalid_scope", field="scope")
        if days not in DAYS:
            raise OAuthError(f"days: must be one of {', '.join(map(str, DAYS))}", field="days")
        token, at, token_id = PERSONAL_PREFIX + new_refresh_token(), now(), new_id()
        scope = " ".join(sorted(set(scopes)))

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            if len(await personal_tokens.list_tokens(session, user_id, at)) >= MOST_TOKENS:
                return False
            await personal_tokens.insert_token(
                session,
                id=token_id,
                token_hash=hash_token(token),
                user_id=user_id,
                name=name.strip(),
                scope=scope,
                created_at=at,
                expires_at=at + timedelta(days=days),
            )
            self._audit.record(
                session, "personal_token_made", origin, user_id=user_id, client_id=None, token_id=token_id, scope=scope
            )
            return True

        if not await self._database.write(unit):
            raise OAuthError(f"There are {MOST_TOKENS} tokens already; end one first")
        return token

    async def find(self, token: str) -> TokenRecord | None:
        """Find a token that is still good."""
        async with self._database.read() as session:
            return await personal_tokens.find_token(session, hash_token(token), now())

    async def end(self, user_id: str, token_id: str, origin: Origin) -> bool:
        """End a token of this person at once, and what was opened with it; tell whether it was theirs."""

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            expires_at = await personal_tokens.delete_token(session, user_id, token_id)
            if expires_at is None:
                return False
            await insert_revoked(session, token_id, expires_at)
            self._audit.record(
                session, "personal_token_ended", origin, user_id=user_id, client_id=None, token_id=token_id
            )
            return True

        ended = await self._database.write(unit)
        self._ended.note()
        return ended

    def note_use(self, token_id: str) -> None:
        """Remember that a token was used."""
        self._used[token_id] = now()

    async def keep_uses(self) -> None:
        """Write down when tokens were last used."""
        used, self._used = self._used, {}
        if used:
            await self._database.write(lambda tx: personal_tokens.note_uses(tx.session, used))
