"""SQL of removing what module ``auth`` need not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import Table, and_, delete, or_, select

from codelab.auth.models import (
    AuthorizationCode,
    BrowserSession,
    DeviceCode,
    RevokedToken,
)
from codelab.auth.people.models import FailureCount, PasswordReset, PersonalToken
from codelab.auth.repository.tables import keys, tokens

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "EXPIRING",
    "delete_expired",
    "delete_keys",
    "delete_tokens",
    "list_ended_tokens",
)

#: What is of no use once it has expired: these tables have ``id`` and ``expires_at``.
EXPIRING = tuple(
    cast("Table", model.__table__)
    for model in (
        AuthorizationCode,
        BrowserSession,
        DeviceCode,
        FailureCount,
        PasswordReset,
        PersonalToken,
        RevokedToken,
    )
)


async def list_ended_tokens(session: AsyncSession, before: datetime, limit: int) -> list[str]:
    """Return the ids of refresh tokens that expired or were revoked before a time."""
    ended = or_(tokens.c.expires_at < before, and_(tokens.c.revoked.is_(True), tokens.c.revoked_at < before))
    return list((await session.execute(select(tokens.c.id).where(ended).limit(limit))).scalars())


async def delete_tokens(session: AsyncSession, ids: Collection[str]) -> int:
    """Delete refresh tokens; return how many were asked for."""
    await session.execute(delete(tokens).where(tokens.c.id.in_(ids)))
    return len(ids)


async def delete_expired(session: AsyncSession, table: Table, before: datetime, limit: int) -> int:
    """Delete rows that expired before a time; return how many."""
    ended = select(table.c.id).where(table.c.expires_at < before).limit(limit)
    deleted = await session.execute(delete(table).where(table.c.id.in_(ended)).returning(table.c.id))
    return len(deleted.all())


async def delete_keys(session: AsyncSession, before: datetime) -> int:
    """Delete the signing keys whose last token expired before a time; return how many."""
    deleted = await session.execute(delete(keys).where(keys.c.expires_at < before).returning(keys.c.kid))
    return len(deleted.all())
