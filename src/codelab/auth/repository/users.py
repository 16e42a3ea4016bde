"""SQL of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, case, delete, exists, or_, select, update

from codelab.auth.repository.common import insert_if_absent
from codelab.auth.repository.tables import users

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "UserRecord",
    "UserRow",
    "change_user",
    "delete_user",
    "find_active_users",
    "find_user",
    "find_user_by_id",
    "find_user_by_login",
    "find_user_row",
    "has_bcrypt_hashes",
    "has_other_administrator",
    "has_user_like",
    "insert_user_if_absent",
    "list_users",
    "record_login",
)


class UserRecord(NamedTuple):
    """A user as the database knows it."""

    id: str
    username: str
    password_hash: str
    is_active: bool
    is_admin: bool
    email: str
    is_verified: bool


class UserRow(NamedTuple):
    """A user as operators see them."""

    id: str
    username: str
    email: str
    is_active: bool
    is_admin: bool
    is_verified: bool
    created_at: datetime
    last_login_at: datetime | None


_ROW = tuple(users.c[name] for name in UserRow._fields)
_USER = tuple(users.c[name] for name in UserRecord._fields)
# Built once: these are asked again and again.
_BY_NAME = select(*_USER).where(users.c.username == bindparam("username"))
_BY_ID = select(*_USER).where(users.c.id == bindparam("user_id"))
_ACTIVE = select(users.c.id).where(users.c.id.in_(bindparam("user_ids", expanding=True)), users.c.is_active)


async def find_user(session: AsyncSession, username: str) -> UserRecord | None:
    """Find a user by name."""
    row = (await session.execute(_BY_NAME, {"username": username})).one_or_none()
    return UserRecord(*row) if row else None


async def find_user_by_id(session: AsyncSession, user_id: str) -> UserRecord | None:
    """Find a user by id."""
    row = (await session.execute(_BY_ID, {"user_id": user_id})).one_or_none()
    return UserRecord(*row) if row else None


async def find_active_users(session: AsyncSession, user_ids: Sequence[str]) -> set[str]:
    """Return which of the users are there and not disabled."""
    return set((await session.execute(_ACTIVE, {"user_ids": list(user_ids)})).scalars())


async def find_user_by_login(session: AsyncSession, login: str) -> UserRecord | None:
    """Find a user by name or else by email address."""
    statement = (
        select(*_USER)
        .where(or_(users.c.username == login, users.c.email == login))
        .order_by(case((users.c.username == login, 0), else_=1))
        .limit(1)
    )
    row = (await session.execute(statement)).one_or_none()
    return UserRecord(*row) if row else None


async def has_bcrypt_hashes(session: AsyncSession) -> bool:
    """Tell whether somebody's password still has the hash of the system that they came from."""
    found = await session.execute(select(users.c.id).where(users.c.password_hash.like("$2%")).limit(1))
    return found.first() is not None


async def insert_user_if_absent(session: AsyncSession, **values: Any) -> bool:
    """Insert a user unless the name or the address is taken; tell whether it was inserted."""
    return await insert_if_absent(session, users, values)


async def record_login(session: AsyncSession, user: UserRecord, at: datetime, new_hash: str | None) -> bool:
    """Note a login, and the re-hashed password; False when the user was disabled or got a new password meanwhile."""
    statement = (
        update(users)
        .where(users.c.id == user.id, users.c.is_active, users.c.password_hash == user.password_hash)
        .values(last_login_at=at, updated_at=users.c.updated_at)
        .returning(users.c.id)
    )
    if new_hash is not None:
        statement = statement.values(password_hash=new_hash, updated_at=at)
    return (await session.execute(statement)).one_or_none() is not None


async def find_user_row(session: AsyncSession, username: str) -> UserRow | None:
    """Find a user by name, as operators see them."""
    row = (await session.execute(select(*_ROW).where(users.c.username == username))).one_or_none()
    return UserRow(*row) if row else None


async def list_users(session: AsyncSession, limit: int, after: str) -> list[UserRow]:
    """List users by name, those whose names come after one."""
    statement = select(*_ROW).where(users.c.username > after).order_by(users.c.username).limit(limit)
    return [UserRow(*row) for row in await session.execute(statement)]


async def has_user_like(session: AsyncSession, username: str, email: str) -> bool:
    """Tell whether somebody has one of the two as a name or as an address."""
    wanted = (username, email)
    taken = exists().where(or_(users.c.username.in_(wanted), users.c.email.in_(wanted)))
    return bool((await session.execute(select(taken))).scalar_one())


async def has_other_administrator(session: AsyncSession, user_id: str) -> bool:
    """Tell whether somebody else can administer; holds them to the end of the transaction."""
    others = select(users.c.id).where(users.c.id != user_id, users.c.is_admin, users.c.is_active)
    return (await session.execute(others.limit(1).with_for_update())).first() is not None


async def change_user(session: AsyncSession, user_id: str, at: datetime, **values: Any) -> None:
    """Change a user."""
    await session.execute(update(users).where(users.c.id == user_id).values(updated_at=at, **values))


async def delete_user(session: AsyncSession, user_id: str) -> None:
    """Delete a user with all that hangs on them."""
    await session.execute(delete(users).where(users.c.id == user_id))
