"""SQL of the answers that are kept for clients who repeat a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from codelab.agent.repository.tables import answers
from codelab.db import now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "find", "list_before", "remove")


async def find(db: AsyncSession, owner_id: str, request: str) -> Row[Any] | None:
    """Return what was answered to a request of a person."""
    found = await db.execute(select(answers).where(answers.c.owner_id == owner_id, answers.c.request == request))
    return found.first()


async def add(db: AsyncSession, **values: Any) -> None:
    """Insert an answer."""
    await db.execute(insert(answers).values(created_at=now(), **values))


async def list_before(db: AsyncSession, before: datetime, limit: int) -> list[int]:
    """Return the keys of at most so many answers that are older than a time, the oldest first."""
    old = select(answers.c.db_id).where(answers.c.created_at < before).order_by(answers.c.created_at).limit(limit)
    return list((await db.execute(old)).scalars())


async def remove(db: AsyncSession, keys: Sequence[int]) -> int:
    """Delete answers; return how many there were."""
    removed = await db.execute(delete(answers).where(answers.c.db_id.in_(keys)).returning(answers.c.db_id))
    return len(removed.all())
