"""SQL of the signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Table, func, insert, or_, select, update

from codelab.auth.models import OAuthClient, SigningKey

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

_signing_keys = cast("Table", SigningKey.__table__)
_clients = cast("Table", OAuthClient.__table__)


class KeyRecord(NamedTuple):
    """A signing key as the database knows it."""

    kid: str
    public_jwk: dict[str, Any]
    private_jwe: str
    created_at: datetime
    retired_at: datetime | None
    expires_at: datetime | None


_KEY = tuple(_signing_keys.c[name] for name in KeyRecord._fields)


async def list_signing_keys(session: AsyncSession, at: datetime, alg: str) -> Sequence[KeyRecord]:
    """List the keys of an algorithm that have not expired at a time, the newest first."""
    statement = (
        select(*_KEY)
        .where(_signing_keys.c.alg == alg, or_(_signing_keys.c.expires_at.is_(None), _signing_keys.c.expires_at > at))
        .order_by(_signing_keys.c.created_at.desc(), _signing_keys.c.kid)
    )
    return [KeyRecord(*row) for row in (await session.execute(statement)).all()]


async def list_all_keys(session: AsyncSession, alg: str) -> Sequence[KeyRecord]:
    """List the keys of an algorithm, those too that have expired, the newest first."""
    statement = select(*_KEY).where(_signing_keys.c.alg == alg)
    ordered = statement.order_by(_signing_keys.c.created_at.desc(), _signing_keys.c.kid)
    return [KeyRecord(*row) for row in (await session.execute(ordered)).all()]


async def longest_lifetime(session: AsyncSession) -> int:
    """Return for how many seconds a token that is made now may live."""
    return int(
        (await session.execute(select(func.coalesce(func.max(_clients.c.access_token_lifetime), 0)))).scalar_one()
    )


async def insert_signing_key(session: AsyncSession, **values: Any) -> None:
    """Insert a signing key."""
    await session.execute(insert(_signing_keys).values(values))


async def retire_signing_keys(session: AsyncSession, kids: Collection[str], at: datetime, expires_at: datetime) -> None:
    """Let keys sign no more, and be published until they expire."""
    await session.execute(
        update(_signing_keys)
        .where(_signing_keys.c.kid.in_(kids))
        .values(retired_at=func.coalesce(_signing_keys.c.retired_at, at), expires_at=expires_at)
    )
