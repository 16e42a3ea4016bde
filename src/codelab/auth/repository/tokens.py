"""SQL of refresh tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from codelab.auth.repository.tables import tokens, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "RefreshRecord",
    "RotatedRecord",
    "find_refresh_token",
    "insert_refresh_token",
    "is_alive",
    "is_rotated",
    "revoke_family",
    "rotate_refresh_token",
)


class RefreshRecord(NamedTuple):
    """A refresh token, with the state of its user."""

    family_id: str
    user_id: str
    client_id: str
    scope: str
    resource: str | None
    auth_time: datetime | None
    expires_at: datetime
    revoked: bool
    revoked_at: datetime | None
    user_is_active: bool


class RotatedRecord(NamedTuple):
    """What the successor of a rotated refresh token inherits."""

    family_id: str
    user_id: str
    scope: str
    resource: str | None
    auth_time: datetime | None


_REFRESH = (*(tokens.c[name] for name in RefreshRecord._fields[:-1]), users.c.is_active)
# Built once: these are the statements of the busiest grant.
_BY_HASH = (
    select(*_REFRESH)
    .select_from(tokens.join(users, users.c.id == tokens.c.user_id))
    .where(tokens.c.jti_hash == bindparam("shown"))
)
_INSERT = insert(tokens)
_ROTATE = (
    update(tokens)
    .where(
        tokens.c.jti_hash == bindparam("shown"),
        tokens.c.client_id == bindparam("by"),
        ~tokens.c.revoked,
        tokens.c.expires_at > bindparam("at"),
        select(users.c.id).where(users.c.id == tokens.c.user_id, users.c.is_active).exists(),
    )
    .values(revoked=True, revoked_at=bindparam("at"))
    .returning(*(tokens.c[name] for name in RotatedRecord._fields))
)


async def find_refresh_token(session: AsyncSession, jti_hash: str) -> RefreshRecord | None:
    """Find a refresh token by its hash."""
    row = (await session.execute(_BY_HASH, {"shown": jti_hash})).one_or_none()
    return RefreshRecord(*row) if row else None


async def insert_refresh_token(session: AsyncSession, **values: Any) -> None:
    """Insert a refresh token."""
    await session.execute(_INSERT, values)


async def rotate_refresh_token(
    session: AsyncSession, jti_hash: str, client_id: str, at: datetime
) -> RotatedRecord | None:
    """Use up a refresh token: of all who try, one gets what its successor inherits, the others None."""
    row = (await session.execute(_ROTATE, {"shown": jti_hash, "by": client_id, "at": at})).one_or_none()
    return RotatedRecord(*row) if row else None


async def is_rotated(session: AsyncSession, family_id: str, jti_hash: str) -> bool:
    """Tell whether a refresh token has a successor (a token revoked for another reason has none)."""
    statement = select(tokens.c.id).where(tokens.c.family_id == family_id, tokens.c.parent_jti_hash == jti_hash)
    return (await session.execute(statement.limit(1))).one_or_none() is not None


async def is_alive(session: AsyncSession, family_id: str, at: datetime) -> bool:
    """Tell whether a family has a refresh token that is still good."""
    statement = select(tokens.c.id).where(tokens.c.family_id == family_id, ~tokens.c.revoked, tokens.c.expires_at > at)
    return (await session.execute(statement.limit(1))).one_or_none() is not None


async def revoke_family(session: AsyncSession, family_id: str, at: datetime) -> int:
    """Revoke what is alive of a family of refresh tokens; return how many were."""
    statement = (
        update(tokens)
        .where(tokens.c.family_id == family_id, ~tokens.c.revoked)
        .values(revoked=True, revoked_at=at)
        .returning(tokens.c.id)
    )
    return len((await session.execute(statement)).all())
