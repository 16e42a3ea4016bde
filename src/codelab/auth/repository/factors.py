"""SQL of second factors and of the codes that stand in for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, insert, select, update

from codelab.auth.repository.tables import factors, recovery_codes
from codelab.db import new_id

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "FactorRecord",
    "confirm_factor",
    "delete_factor",
    "find_factor",
    "insert_factor",
    "keep_codes",
    "use_code",
    "use_step",
)


class FactorRecord(NamedTuple):
    """A second factor as the database knows it."""

    secret_jwe: str
    last_step: int
    confirmed_at: datetime | None


async def find_factor(session: AsyncSession, user_id: str) -> FactorRecord | None:
    """Find the factor of a person, confirmed or not."""
    columns = (factors.c[name] for name in FactorRecord._fields)
    row = (await session.execute(select(*columns).where(factors.c.user_id == user_id))).one_or_none()
    return FactorRecord(*row) if row else None


async def insert_factor(session: AsyncSession, user_id: str, secret_jwe: str, at: datetime) -> None:
    """Insert a factor that is not confirmed, in place of one that is not either."""
    await session.execute(delete(factors).where(factors.c.user_id == user_id, factors.c.confirmed_at.is_(None)))
    await session.execute(
        insert(factors).values(id=new_id(), user_id=user_id, secret_jwe=secret_jwe, last_step=0, created_at=at)
    )


async def use_step(session: AsyncSession, user_id: str, secret_jwe: str, step: int) -> bool:
    """Use up the code of a step: of all who try, one gets True, and no earlier step counts any more."""
    used = (
        update(factors)
        .where(factors.c.user_id == user_id, factors.c.secret_jwe == secret_jwe, factors.c.last_step < step)
        .values(last_step=step)
        .returning(factors.c.id)
    )
    return (await session.execute(used)).one_or_none() is not None


async def confirm_factor(session: AsyncSession, user_id: str, at: datetime) -> None:
    """Let a factor count."""
    await session.execute(update(factors).where(factors.c.user_id == user_id).values(confirmed_at=at))


async def delete_factor(session: AsyncSession, user_id: str) -> bool:
    """Delete the factor of a person with its recovery codes; tell whether there was one."""
    await session.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    deleted = delete(factors).where(factors.c.user_id == user_id).returning(factors.c.id)
    return (await session.execute(deleted)).one_or_none() is not None


async def keep_codes(session: AsyncSession, user_id: str, hashes: Collection[str]) -> None:
    """Keep recovery codes in place of those before."""
    await session.execute(delete(recovery_codes).where(recovery_codes.c.user_id == user_id))
    rows = [{"id": new_id(), "user_id": user_id, "code_hash": code_hash} for code_hash in hashes]
    await session.execute(insert(recovery_codes), rows)


async def use_code(session: AsyncSession, user_id: str, code_hash: str) -> bool:
    """Use up a recovery code: of all who try, one gets True."""
    used = delete(recovery_codes).where(recovery_codes.c.user_id == user_id, recovery_codes.c.code_hash == code_hash)
    return (await session.execute(used.returning(recovery_codes.c.id))).one_or_none() is not None
