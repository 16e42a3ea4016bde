"""From a bearer token to the person behind it, fast: no password hash and no write on this path."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.personal_tokens import PERSONAL_CLIENT_ID, PERSONAL_PREFIX
from codelab.auth.recent import Recent
from codelab.auth.repository import users
from codelab.auth.repository.clients import find_active_clients
from codelab.auth.seeds import ADMIN
from codelab.auth.tokens import ids_of, key_mark, refuse
from codelab.identity import SCOPES, Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.clients import KnownClients
    from codelab.auth.personal_tokens import PersonalTokens
    from codelab.auth.repository.personal_tokens import TokenRecord
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.tokens import AccessTokens
    from codelab.db import Database

__all__ = ("LOCAL_CLIENT_ID", "LOCAL_PREFIX", "Principals")

LOCAL_PREFIX = "codelab_local_"
LOCAL_CLIENT_ID = "codelab-local"

#: Seconds that a user may still be taken for active after somebody disabled them.
_MAX_AGE = 1.0
#: Users or clients that one statement asks for.
_CHUNK = 100


class _Verified(NamedTuple):
    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float
    ids: tuple[str, ...]


class Principals:
    """Tell whose a bearer token is."""

    def __init__(
        self,
        database: Database,
        clients: KnownClients,
        tokens: AccessTokens,
        personal: PersonalTokens,
        ended: Revocations,
        local_secret: str | None,
    ) -> None:
        self._database = database
        self._clients = clients
        self._tokens = tokens
        self._personal = personal
        self._ended = ended
        self._local_secret = local_secret.encode() if local_secret else None
        self._verified: Recent[_Verified] = Recent()
        self._personal_known: Recent[TokenRecord] = Recent()
        self._known: Recent[tuple[float, UserRecord]] = Recent()

    async def find(self, token: str) -> Principal:
        """Return the person behind a token.

        Raises:
            Unauthenticated: the token is not valid, or its user or client is disabled or gone, or it was revoked.
        """
        if token.startswith(LOCAL_PREFIX):
            return await self._find_local(token)
        if token.startswith(PERSONAL_PREFIX):
            return await self._find_personal(token)
        # Keyed by the hash, so that a dump of this process does not hold every token in use.
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        verified = self._verified.get(key)
        if verified is None or verified.expires_at <= time.time():
            self._verified.drop(key)
            claims = self._tokens.verify(token)
            scopes = frozenset(claims["scope"].split())
            verified = _Verified(
                claims["sub"], claims["client_id"], scopes, float(claims["exp"]), (*ids_of(claims), key_mark(token))
            )
            self._verified.put(key, verified)
        if await self._ended.has_ended(verified.ids):
            raise refuse("The access token was revoked.")
        if not await self._clients.is_active(verified.client_id):
            raise refuse("The client of the access token is disabled or gone.")
        if verified.subject == verified.client_id:
            # RFC 9068 section 2.2: the subject of a client that acts for itself is the client.
            username, scopes = verified.client_id, verified.scopes
        else:
            user = await self._active(verified.subject, users.find_user_by_id)
            username, scopes = user.username, verified.scopes
            if not user.is_admin:
                scopes -= {"api:admin"}
        return Principal(
            subject=verified.subject,
            username=username,
            client_id=verified.client_id,
            scopes=scopes,
            expires_at=verified.expires_at,
            proof_ids=verified.ids,
        )

    async def still_active(self, principals: Collection[Principal]) -> set[Principal]:
        """Return who is not disabled, nor the client that acts for them, as the database says now."""
        wanted = list({name for each in principals for name in (each.subject, each.client_id)})
        active_users, active_clients = set[str](), {LOCAL_CLIENT_ID, PERSONAL_CLIENT_ID}
        async with self._database.peek() as session:
            for first in range(0, len(wanted), _CHUNK):
                chunk = wanted[first : first + _CHUNK]
                active_users |= await users.find_active_users(session, chunk)
                active_clients |= await find_active_clients(session, chunk)
        active = active_users | active_clients
        return {each for each in principals if each.subject in active and each.client_id in active_clients}

    async def _find_local(self, token: str) -> Principal:
        if self._local_secret is None or not hmac.compare_digest(token.encode(errors="replace"), self._local_secret):
            raise refuse("The access token is not valid.")
        user = await self._active(ADMIN, users.find_user)
        return Principal(subject=user.id, username=user.username, client_id=LOCAL_CLIENT_ID, scopes=frozenset(SCOPES))

    async def _find_personal(self, token: str) -> Principal:
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        found = self._personal_known.get(key) or await self._personal.find(token)
        if found is None or found.expires_at.timestamp() <= time.time() or await self._ended.has_ended((found.id,)):
            self._personal_known.drop(key)
            raise refuse("The access token is not valid.")
        self._personal_known.put(key, found)
        user = await self._active(found.user_id, users.find_user_by_id)
        self._personal.note_use(found.id)
        return Principal(
            subject=user.id,
            username=user.username,
            client_id=PERSONAL_CLIENT_ID,
            scopes=frozenset(found.scope.split()),
            expires_at=found.expires_at.timestamp(),
            proof_ids=(found.id,),
        )

    async def _active(self, key: str, find: Callable[[AsyncSession, str], Awaitable[UserRecord | None]]) -> UserRecord:
        # The clock is read before the database: what is read later is not older than it seems.
        at = time.monotonic()
        known = self._known.get((find, key))
        if known is None or at - known[0] >= _MAX_AGE:
            async with self._database.peek() as session:
                found = await find(session, key)
            if found is None:
                self._known.drop((find, key))
                raise refuse("The access token is not valid.")
            known = (at, found)
            self._known.put((find, key), known)
        user = known[1]
        if not user.is_active:
            raise refuse("The user of the access token is disabled.")
        return user
