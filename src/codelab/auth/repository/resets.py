"""SQL of links with which people choose a new password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import delete, insert, select

from codelab.auth.repository.tables import resets

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("delete_resets", "find_reset", "insert_reset", "use_reset")


async def insert_reset(session: AsyncSession, **values: Any) -> None:
    """Insert a link."""
    await session.execute(insert(resets).values(values))


async def find_reset(session: AsyncSession, token_hash: str, at: datetime) -> str | None:
    """Return the user of a link that is still good."""
    statement = select(resets.c.user_id).where(resets.c.token_hash == token_hash, resets.c.expires_at > at)
    return cast("str | None", await session.scalar(statement))


async def use_reset(session: AsyncSession, token_hash: str, at: datetime) -> bool:
    """Use up a link: of all who try, one gets True."""
    used = delete(resets).where(resets.c.token_hash == token_hash, resets.c.expires_at > at)
    return (await session.execute(used.returning(resets.c.id))).one_or_none() is not None


async def delete_resets(session: AsyncSession, user_id: str) -> None:
    """Delete the links of a user."""
    await session.execute(delete(resets).where(resets.c.user_id == user_id))
