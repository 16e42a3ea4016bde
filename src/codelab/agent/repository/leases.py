"""SQL of leases: which process works on a running turn, and until when nobody else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, or_, select, update

from codelab.agent.repository.tables import sessions, turns
from codelab.agent.repository.turns import NO_LEASE, OPEN

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("claim", "free_all", "list_unattended", "release", "renew")


async def claim(db: AsyncSession, turn_db_id: int, owner: str, until: datetime) -> None:
    """Make a process the one that works on a turn."""
    values = {"lease_owner": owner, "lease_expires_at": until}
    await db.execute(update(turns).where(turns.c.db_id == turn_db_id).values(values))


async def renew(db: AsyncSession, owner: str, until: datetime) -> set[str]:
    """Renew the leases of all running turns of a process; return the ids of the turns."""
    renewed = await db.execute(
        update(turns)
        .where(OPEN, turns.c.state == "running", turns.c.lease_owner == owner)
        .values(lease_expires_at=until)
        .returning(turns.c.id)
    )
    return set(renewed.scalars())


async def release(db: AsyncSession, owner: str) -> None:
    """End the leases of a process that stops; its turns stay running, for the next one."""
    await db.execute(update(turns).where(OPEN, turns.c.lease_owner == owner).values(NO_LEASE))


async def free_all(db: AsyncSession) -> None:
    """End all leases: it is proven that no process works on any turn."""
    await db.execute(update(turns).where(OPEN, turns.c.state == "running").values(NO_LEASE))


async def list_unattended(db: AsyncSession, at: datetime, owner: str) -> list[int]:
    """Return the sessions with work that no other process does: a running turn without its lease, or a free queue."""
    none = or_(turns.c.lease_owner.is_(None), turns.c.lease_expires_at.is_(None))
    free = or_(none, turns.c.lease_expires_at <= at, turns.c.lease_owner == owner)
    active = turns.alias("active")
    busy = exists().where(active.c.session_db_id == turns.c.session_db_id, active.c.state.in_(("running", "waiting")))
    found = await db.execute(
        select(turns.c.session_db_id)
        .join(sessions, sessions.c.db_id == turns.c.session_db_id)
        .where(
            OPEN,
            or_(and_(turns.c.state == "running", free), and_(turns.c.state == "queued", ~busy)),
            sessions.c.deleted_at.is_(None),
        )
        .distinct()
    )
    return list(found.scalars())
