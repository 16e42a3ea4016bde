"""SQL of failures that are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from codelab.auth.repository.tables import counts

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("CountRecord", "delete_count", "find_counts", "keep_count")


class CountRecord(NamedTuple):
    """What is known about the failures of somebody."""

    id: str
    failures: int
    since: datetime
    waits: int
    blocked_until: datetime | None
    expires_at: datetime


_COUNT = tuple(counts.c[name] for name in CountRecord._fields)


async def find_counts(session: AsyncSession, ids: Collection[str], at: datetime) -> list[CountRecord]:
    """Find the counts that still count."""
    found = await session.execute(select(*_COUNT).where(counts.c.id.in_(ids), counts.c.expires_at > at))
    return [CountRecord(*row) for row in found]


async def keep_count(session: AsyncSession, count: CountRecord) -> None:
    """Keep a count in place of what it was."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    values = count._asdict()
    statement = dialect.insert(counts).values(values)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


async def delete_count(session: AsyncSession, count_id: str) -> None:
    """Forget a count."""
    await session.execute(delete(counts).where(counts.c.id == count_id))
