"""SQL of removing what module ``auth`` need not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import Table, and_, delete, func, or_, select

from codelab.auth.models import (
    AuthorizationCode,
    BrowserSession,
    DeviceCode,
    RefreshToken,
    RevokedToken,
    SigningKey,
)
from codelab.auth.people.models import FailureCount, PasswordReset, PersonalToken
from codelab.auth.repository.audit import AUDIT

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "EXPIRING",
    "delete_expired",
    "delete_keys",
    "delete_pruned",
    "delete_tokens",
    "last_seq_before",
    "list_ended_tokens",
    "pruned_seq",
)

_tokens = cast("Table", RefreshToken.__table__)
_keys = cast("Table", SigningKey.__table__)
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
    ended = or_(_tokens.c.expires_at < before, and_(_tokens.c.revoked.is_(True), _tokens.c.revoked_at < before))
    return list((await session.execute(select(_tokens.c.id).where(ended).limit(limit))).scalars())


async def delete_tokens(session: AsyncSession, ids: Collection[str]) -> int:
    """Delete refresh tokens; return how many were asked for."""
    await session.execute(delete(_tokens).where(_tokens.c.id.in_(ids)))
    return len(ids)


async def delete_expired(session: AsyncSession, table: Table, before: datetime, limit: int) -> int:
    """Delete rows that expired before a time; return how many."""
    ended = select(table.c.id).where(table.c.expires_at < before).limit(limit)
    deleted = await session.execute(delete(table).where(table.c.id.in_(ended)).returning(table.c.id))
    return len(deleted.all())


async def delete_keys(session: AsyncSession, before: datetime) -> int:
    """Delete the signing keys whose last token expired before a time; return how many."""
    deleted = await session.execute(delete(_keys).where(_keys.c.expires_at < before).returning(_keys.c.kid))
    return len(deleted.all())


async def pruned_seq(session: AsyncSession) -> int:
    """Return up to which ``seq`` the audit trail may be deleted."""
    checkpoints = AUDIT.checkpoints
    found = await session.execute(
        select(func.coalesce(func.max(checkpoints.c.seq), 0)).where(checkpoints.c.kind == "pruned")
    )
    return int(found.scalar_one())


async def last_seq_before(session: AsyncSession, before: datetime) -> int:
    """Return the ``seq`` up to which every row of the audit trail is older than a time, 0 where none is."""
    rows = AUDIT.rows
    first_kept = select(func.min(rows.c.seq)).where(rows.c.created_at >= before).scalar_subquery()
    found = await session.execute(
        select(func.coalesce(func.max(rows.c.seq), 0)).where(
            rows.c.seq.is_not(None),
            rows.c.seq < func.coalesce(first_kept, select(AUDIT.head.c.seq).scalar_subquery() + 1),
        )
    )
    return int(found.scalar_one())


async def delete_pruned(session: AsyncSession, until: int, limit: int) -> int:
    """Delete rows of the audit trail up to a ``seq``, the oldest first; return how many."""
    rows = AUDIT.rows
    found = await session.execute(select(rows.c.seq).where(rows.c.seq <= until).order_by(rows.c.seq).limit(limit))
    seqs = list(found.scalars())
    if seqs:
        await session.execute(delete(rows).where(rows.c.seq <= seqs[-1]))
    return len(seqs)
