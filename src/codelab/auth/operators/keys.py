"""Signing keys, as operators see them: look at, rotate, retire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.auth.idempotency import write_once
from codelab.auth.keys import ALGORITHM
from codelab.auth.repository import keys
from codelab.auth.repository.revocations import LONGEST_LIFE, insert_revoked
from codelab.auth.schemas import KeyView
from codelab.auth.tokens import mark_of
from codelab.db import now
from codelab.errors import Conflict, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from codelab.auth.audit import Audit
    from codelab.auth.keys import KeyRing
    from codelab.auth.operators.common import Actor
    from codelab.auth.repository.keys import KeyRecord
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once

__all__ = ("Keys",)


class Keys:
    """Administer the keys that sign access tokens; a server that runs follows within a second."""

    def __init__(self, database: Database, audit: Audit, ring: KeyRing) -> None:
        self._database = database
        self._audit = audit
        self._ring = ring

    async def list(self) -> list[KeyView]:
        """List the keys, the newest first; those too whose tokens have all expired, until they are removed."""
        async with self._database.read() as session:
            records = await keys.list_all_keys(session, ALGORITHM)
        at = now()
        return [_view(record, at) for record in records]

    async def rotate(self, actor: Actor, once: Once | None = None) -> KeyView:
        """Make a new key, which signs from now on; old ones are published until their last token has expired.

        Raises:
            StartError: the key file cannot be used.
            Conflict: the key of ``once`` came with another request before.
        """
        succeed = self._ring.successor(actor.origin, **actor.said)

        async def unit(transaction: Transaction) -> KeyView:
            kid = await succeed(transaction)
            (made,) = (each for each in await keys.list_all_keys(transaction.session, ALGORITHM) if each.kid == kid)
            return _view(made, now())

        made = await write_once(self._database, once, actor, ("keys/rotate",), unit, KeyView)
        await self._ring.reload()
        return made

    async def retire(self, actor: Actor, kid: str, once: Once | None = None) -> KeyView:
        """Publish a key no more: every token that it signed ends at once.

        Raises:
            NotFound: there is no such key.
            Conflict: it is the key that signs, and a new one has to be made first; or the key of ``once`` came with
                another request before.
        """
        at = now()

        async def unit(transaction: Transaction) -> KeyView:
            session = transaction.session
            found = [each for each in await keys.list_all_keys(session, ALGORITHM) if each.kid == kid]
            if not found:
                raise NotFound(f"There is no signing key {kid!r}.")
            (record,) = found
            if record.retired_at is None:
                raise Conflict("This key signs; make a new one first, with keys rotate.")
            if record.expires_at is None or record.expires_at > at:
                await keys.retire_signing_keys(session, [kid], at, expires_at=at)
                # For tokens that were verified before, and the streams that were opened with one.
                await insert_revoked(session, mark_of(kid), at + LONGEST_LIFE)
                self._audit.record(
                    session, "key_retired", actor.origin, user_id=None, client_id=None, kid=kid, **actor.said
                )
                record = record._replace(expires_at=at)
            return _view(record, at)

        retired = await write_once(self._database, once, actor, ("keys/retire", kid), unit, KeyView)
        await self._ring.refresh()
        return retired


def _view(record: KeyRecord, at: datetime) -> KeyView:
    ended = record.expires_at is not None and record.expires_at <= at
    return KeyView(
        kid=record.kid,
        alg=ALGORITHM,
        state="signs" if record.retired_at is None else "expired" if ended else "verifies",
        created_at=record.created_at,
        retired_at=record.retired_at,
        expires_at=record.expires_at,
    )
