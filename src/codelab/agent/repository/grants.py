"""SQL of grants, and of the calls that one would have matched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, insert, or_, select, update

from codelab.agent.repository.tables import calls, grants, messages, sessions
from codelab.db import new_id, now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "find", "last_calls", "list_all", "list_usable", "revoke", "use")


#: Sessions of a person in which their last calls are looked for, the latest activity first.
LATEST_SESSIONS = 100


def _select() -> Select[Any]:
    """Select grants with the public id of their session."""
    return select(grants, sessions.c.id.label("session_id")).outerjoin(
        sessions, sessions.c.db_id == grants.c.session_db_id
    )


async def add(db: AsyncSession, **values: Any) -> str:
    """Insert a grant; return its public id."""
    grant_id = new_id()
    await db.execute(insert(grants).values(id=grant_id, uses=0, created_at=now(), **values))
    return grant_id


async def find(db: AsyncSession, owner_id: str, grant_id: str) -> Row[Any] | None:
    """Return a grant of a person, whatever has become of it."""
    found = await db.execute(_select().where(grants.c.owner_id == owner_id, grants.c.id == grant_id))
    row: Row[Any] | None = found.first()
    return row


async def list_all(db: AsyncSession, owner_id: str, *, ended: bool, before: int | None, limit: int) -> list[Row[Any]]:
    """Return a person's grants, the newest first: those that hold, or with ``ended`` all."""
    statement = _select().where(grants.c.owner_id == owner_id).order_by(grants.c.db_id.desc()).limit(limit)
    if not ended:
        statement = statement.where(*_holds())
    if before is not None:
        statement = statement.where(grants.c.db_id < before)
    return list((await db.execute(statement)).all())


async def list_usable(
    db: AsyncSession, owner_id: str, *, session_db_id: int, turn_id: str, agent: str
) -> list[Row[Any]]:
    """Return the grants that hold for calls of an agent in a turn, in the order of their making."""
    found = await db.execute(
        select(grants)
        .where(
            grants.c.owner_id == owner_id,
            *_holds(),
            or_(grants.c.session_db_id.is_(None), grants.c.session_db_id == session_db_id),
            or_(grants.c.turn_id.is_(None), grants.c.turn_id == turn_id),
            or_(grants.c.agent.is_(None), grants.c.agent == agent),
        )
        .order_by(grants.c.db_id)
    )
    return list(found)


async def use(db: AsyncSession, grant_db_id: int) -> bool:
    """Count one use of a grant by compare-and-set; False when it does not hold any more."""
    used = await db.execute(
        update(grants)
        .where(grants.c.db_id == grant_db_id, *_holds())
        .values(uses=grants.c.uses + 1, uses_left=grants.c.uses_left - 1, last_used_at=now())
        .returning(grants.c.db_id)
    )
    return used.first() is not None


async def revoke(db: AsyncSession, grant_db_id: int) -> None:
    """End a grant; the first time counts."""
    await db.execute(
        update(grants).where(grants.c.db_id == grant_db_id, grants.c.revoked_at.is_(None)).values(revoked_at=now())
    )


async def last_calls(db: AsyncSession, owner_id: str, session_db_id: int | None, limit: int) -> list[Row[Any]]:
    """Return the latest calls of a person, or of one of their sessions, the newest first, with the agent of each."""
    latest = (
        select(sessions.c.db_id)
        .where(sessions.c.owner_id == owner_id, sessions.c.deleted_at.is_(None))
        .order_by(sessions.c.last_activity.desc(), sessions.c.db_id.desc())
        .limit(LATEST_SESSIONS)
    )
    own = calls.c.session_db_id.in_(latest) if session_db_id is None else calls.c.session_db_id == session_db_id
    statement: Select[Any] = (
        select(calls, messages.c.agent, sessions.c.id.label("session_id"))
        .join(sessions, sessions.c.db_id == calls.c.session_db_id)
        .join(messages, messages.c.id == calls.c.message_id)
        .where(own)
        .order_by(calls.c.db_id.desc())
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


def _holds() -> tuple[Any, ...]:
    return (
        grants.c.revoked_at.is_(None),
        or_(grants.c.uses_left.is_(None), grants.c.uses_left > 0),
        or_(grants.c.expires_at.is_(None), grants.c.expires_at > now()),
    )
