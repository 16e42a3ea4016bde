"""SQL of the signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, insert, or_, select, update

from codelab.auth.repository.tables import clients, keys

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "KeyRecord",
    "insert_signing_key",
    "list_all_keys",
    "list_signing_keys",
    "longest_lifetime",
    "retire_signing_keys",
)


class KeyRecord(NamedTuple):
    """A signing key as the database knows it."""

    kid: str
    public_jwk: dict[str, Any]
    private_jwe: str
    created_at: datetime
    retired_at: datetime | None
    expires_at: datetime | None


_KEY = tuple(keys.c[name] for name in KeyRecord._fields)


async def list_signing_keys(session: AsyncSession, at: datetime, alg: str) -> Sequence[KeyRecord]:
    """List the keys of an algorithm that have not expired at a time, the newest first."""
    statement = (
        select(*_KEY)
        .where(keys.c.alg == alg, or_(keys.c.expires_at.is_(None), keys.c.expires_at > at))
        .order_by(keys.c.created_at.desc(), keys.c.kid)
    )
    return [KeyRecord(*row) for row in (await session.execute(statement)).all()]


async def list_all_keys(session: AsyncSession, alg: str) -> Sequence[KeyRecord]:
    """List the keys of an algorithm, those too that have expired, the newest first."""
    statement = select(*_KEY).where(keys.c.alg == alg)
    ordered = statement.order_by(keys.c.created_at.desc(), keys.c.kid)
    return [KeyRecord(*row) for row in (await session.execute(ordered)).all()]


async def longest_lifetime(session: AsyncSession) -> int:
    """Return for how many seconds a token that is made now may live."""
    return int(
        (await session.execute(select(func.coalesce(func.max(clients.c.access_token_lifetime), 0)))).scalar_one()
    )


async def insert_signing_key(session: AsyncSession, **values: Any) -> None:
    """Insert a signing key."""
    await session.execute(insert(keys).values(values))


async def retire_signing_keys(session: AsyncSession, kids: Collection[str], at: datetime, expires_at: datetime) -> None:
    """Let keys sign no more, and be published until they expire."""
    await session.execute(
        update(keys)
        .where(keys.c.kid.in_(kids))
        .values(retired_at=func.coalesce(keys.c.retired_at, at), expires_at=expires_at)
    )
