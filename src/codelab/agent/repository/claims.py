"""SQL of claims: which client runs a tool call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, select, update

from codelab.agent.repository.tables import approvals, calls, messages
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("claim", "find_claimed", "last_approval", "list_claimed", "offer_again", "set_waiting")


#: Also the condition of the index that finds them.
_CLAIMED = (calls.c.state == "requested", calls.c.claimed_by.is_not(None))


async def claim(db: AsyncSession, call_db_id: int, client: str) -> None:
    """Give a call to a client, or renew what it has."""
    await db.execute(update(calls).where(calls.c.db_id == call_db_id).values(claimed_by=client, claimed_at=now()))


async def list_claimed(db: AsyncSession, after: int, limit: int) -> list[Row[Any]]:
    """Return the calls that some client runs now, by their key: key, session, tool, client and time of the claim."""
    statement: Select[Any] = (
        select(calls.c.db_id, calls.c.session_db_id, calls.c.tool_name, calls.c.claimed_by, calls.c.claimed_at)
        .where(*_CLAIMED, calls.c.db_id > after)
        .order_by(calls.c.db_id)
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


async def find_claimed(db: AsyncSession, call_db_id: int, client: str) -> Row[Any] | None:
    """Return a call that a client runs still, with the agent that made it."""
    found = await db.execute(
        select(calls, messages.c.agent)
        .join(messages, messages.c.id == calls.c.message_id)
        .where(*_CLAIMED, calls.c.db_id == call_db_id, calls.c.claimed_by == client)
    )
    return found.first()


async def offer_again(db: AsyncSession, call_db_id: int) -> None:
    """Take a call from its client, so that any may have it."""
    again = {"state": "requested", "attempt": calls.c.attempt + 1, "claimed_by": None, "claimed_at": None}
    await db.execute(update(calls).where(calls.c.db_id == call_db_id).values(again))


async def set_waiting(db: AsyncSession, call_db_id: int) -> None:
    """Let a call wait for a person; it keeps the name of the client that ran it."""
    await db.execute(update(calls).where(calls.c.db_id == call_db_id).values(state="awaiting_approval"))


async def last_approval(db: AsyncSession, session_db_id: int, call_id: str) -> str | None:
    """Return the public id of the approval under which a call was requested last, if there was one."""
    found = await db.execute(
        select(approvals.c.request_id)
        .where(
            approvals.c.session_db_id == session_db_id,
            approvals.c.call_id == call_id,
            approvals.c.status == "approved",
        )
        .order_by(approvals.c.created_at.desc(), approvals.c.id.desc())
        .limit(1)
    )
    return found.scalar()
