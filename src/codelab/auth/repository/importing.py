"""SQL of importing people, programs and tokens of another system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, exists, insert, or_, select, update

from codelab.auth.models import AuditLog, OAuthClient, RefreshToken, SigningKey, User

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "extend_key", "has_user_like", "known_ids", "list_active_users")

TABLES: dict[str, Table] = {
    table.name: table
    for table in (cast("Table", model.__table__) for model in (User, OAuthClient, RefreshToken, AuditLog, SigningKey))
}
_CHUNK = 500


async def known_ids(session: AsyncSession, table: str, ids: Collection[str], column: str = "id") -> set[str]:
    """Return which values a column has already."""
    wanted, known = list(ids), set[str]()
    target = TABLES[table].c[column]
    for start in range(0, len(wanted), _CHUNK):
        found = await session.execute(select(target).where(target.in_(wanted[start : start + _CHUNK])))
        known.update(found.scalars())
    return known


async def has_user_like(session: AsyncSession, username: str, email: str) -> bool:
    """Tell whether somebody has that name or that address."""
    users = TABLES["users"]
    taken = exists().where(or_(users.c.username == username, users.c.email == email))
    return bool((await session.execute(select(taken))).scalar_one())


async def list_active_users(session: AsyncSession) -> list[tuple[str, str]]:
    """Return id and name of everybody who may log in, by name."""
    users = TABLES["users"]
    found = await session.execute(
        select(users.c.id, users.c.username).where(users.c.is_active).order_by(users.c.username)
    )
    return [(row.id, row.username) for row in found]


async def add(session: AsyncSession, table: str, **values: Any) -> None:
    """Insert a row."""
    await session.execute(insert(TABLES[table]).values(values))


async def extend_key(session: AsyncSession, kid: str, expires_at: datetime) -> None:
    """Let a key verify for longer; never for less."""
    keys = TABLES["signing_keys"]
    await session.execute(
        update(keys).where(keys.c.kid == kid, keys.c.expires_at < expires_at).values(expires_at=expires_at)
    )
