"""SQL of authorization codes, and of what people let clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from codelab.auth.repository.tables import codes, consents, users
from codelab.db import new_id

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("CodeRecord", "find_code", "find_consent", "insert_code", "keep_consent", "use_code")


class CodeRecord(NamedTuple):
    """An authorization code as the database knows it."""

    id: str
    family_id: str
    user_id: str
    client_id: str
    redirect_uri: str | None
    scope: str
    resource: str | None
    code_challenge: str
    nonce: str | None
    auth_time: datetime
    expires_at: datetime
    used_at: datetime | None


_CODE = tuple(codes.c[name] for name in CodeRecord._fields)


async def insert_code(session: AsyncSession, **values: Any) -> None:
    """Insert a code."""
    await session.execute(insert(codes).values(id=new_id(), **values))


async def find_code(session: AsyncSession, code_hash: str) -> CodeRecord | None:
    """Find a code by its hash."""
    row = (await session.execute(select(*_CODE).where(codes.c.code_hash == code_hash))).one_or_none()
    return CodeRecord(*row) if row else None


async def use_code(session: AsyncSession, code_id: str, at: datetime) -> bool:
    """Use up a code: of all who try, one gets True. False too when it expired or its user was disabled."""
    active = select(users.c.id).where(users.c.id == codes.c.user_id, users.c.is_active).exists()
    statement = (
        update(codes)
        .where(codes.c.id == code_id, codes.c.used_at.is_(None), codes.c.expires_at > at, active)
        .values(used_at=at)
        .returning(codes.c.id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def find_consent(session: AsyncSession, user_id: str, client_id: str) -> str | None:
    """Return the scopes that a person let a client have, None when they were never asked."""
    statement = select(consents.c.scope).where(consents.c.user_id == user_id, consents.c.client_id == client_id)
    return cast("str | None", await session.scalar(statement))


async def keep_consent(session: AsyncSession, user_id: str, client_id: str, scope: str, at: datetime) -> None:
    """Remember what a person lets a client do, in place of what they did before."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    values = {"user_id": user_id, "client_id": client_id, "scope": scope, "created_at": at}
    statement = dialect.insert(consents).values(id=new_id(), **values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "client_id"], set_={"scope": scope, "created_at": at}
        )
    )
