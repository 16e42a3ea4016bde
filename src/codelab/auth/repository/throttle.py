"""SQL of failures that are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from sqlalchemy import Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from codelab.auth.people.models import FailureCount

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("CountRecord", "delete_count", "find_counts", "keep_count")

_counts = cast("Table", FailureCount.__table__)


class CountRecord(NamedTuple):
    """What is known about the failures of somebody."""

    id: str
    failures: int
    since: datetime
    waits: int
    blocked_until: datetime | None
    expires_at: datetime


_COUNT = tuple(_counts.c[name] for name in CountRecord._fields)


async def find_counts(session: AsyncSession, ids: Collection[str], at: datetime) -> list[CountRecord]:
    """Find the counts that still count."""
    found = await session.execute(select(*_COUNT).where(_counts.c.id.in_(ids), _counts.c.expires_at > at))
    return [CountRecord(*row) for row in found]


async def keep_count(session: AsyncSession, count: CountRecord) -> None:
    """Keep a count in place of what it was."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    values = count._asdict()
    statement = dialect.insert(_counts).values(values)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


async def delete_count(session: AsyncSession, count_id: str) -> None:
    """Forget a count."""
    await session.execute(delete(_counts).where(_counts.c.id == count_id))
