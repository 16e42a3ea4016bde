"""SQL of access tokens that ended before their time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

from sqlalchemy import Table, select

from codelab.auth.models import RevokedToken
from codelab.auth.repository.common import insert_if_absent
from codelab.auth.repository.tokens import revoke_family

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("end_login", "find_revoked", "insert_revoked")

_revoked = cast("Table", RevokedToken.__table__)

#: The longest life of an access token that can be set.
LONGEST_LIFE = timedelta(days=1)


async def find_revoked(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    """Return which of the ids were revoked."""
    return set((await session.execute(select(_revoked.c.id).where(_revoked.c.id.in_(ids)))).scalars())


async def insert_revoked(session: AsyncSession, revoked_id: str, expires_at: datetime) -> bool:
    """Revoke by an id until what it stands for has expired by itself; tell whether that is new."""
    return await insert_if_absent(session, _revoked, {"id": revoked_id, "expires_at": expires_at})


async def end_login(session: AsyncSession, family_id: str, at: datetime) -> int:
    """End a login: its refresh tokens, and with them its access tokens; return how many of the former were alive."""
    await insert_revoked(session, family_id, at + LONGEST_LIFE)
    return await revoke_family(session, family_id, at)
