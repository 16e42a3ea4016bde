"""SQL of the summaries that models are sent in place of older messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, insert, select, tuple_

from codelab.agent.repository.tables import summaries
from codelab.db import new_id, now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "find_latest")

#: As that of messages: both bounds name the session.
place = tuple_(summaries.c.session_db_id, summaries.c.turn_db_id, summaries.c.seq)
# Built once: to build a statement anew costs more than to run it.
_LATEST = (
    select(summaries)
    .where(
        place > tuple_(bindparam("session", type_=BigInteger), 0, 0),
        place < tuple_(bindparam("next", type_=BigInteger), 0, 0),
    )
    .order_by(summaries.c.session_db_id.desc(), summaries.c.turn_db_id.desc(), summaries.c.seq.desc())
    .limit(1)
)


async def add(db: AsyncSession, **values: Any) -> None:
    """Insert a summary."""
    await db.execute(insert(summaries).values(id=new_id(), created_at=now(), **values))


async def find_latest(db: AsyncSession, session_db_id: int) -> Row[Any] | None:
    """Return the summary of a session that reaches furthest."""
    found = await db.execute(_LATEST, {"session": session_db_id, "next": session_db_id + 1})
    return found.first()
