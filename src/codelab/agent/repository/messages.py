"""SQL of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Select, Table, and_, insert, or_, select, update

from codelab.agent.models import Message, Turn
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "complete", "find_streaming", "list_page", "list_transcript", "withdraw")

messages = cast("Table", Message.__table__)
turns = cast("Table", Turn.__table__)


async def add(
    db: AsyncSession, *, message_id: str, session_db_id: int, turn_db_id: int, seq: int, **values: Any
) -> None:
    """Insert a message; its place in the transcript is (``turn_db_id``, ``seq``)."""
    await db.execute(
        insert(messages).values(
            id=message_id,
            session_db_id=session_db_id,
            turn_db_id=turn_db_id,
            seq=seq,
            timestamp=now(),
            **({"status": "completed"} | values),
        )
    )


async def complete(db: AsyncSession, message_id: str, *, status: str, content: str, **values: Any) -> None:
    """End a message that was streaming."""
    await db.execute(
        update(messages).where(messages.c.id == message_id).values(status=status, content=content, **values)
    )


async def withdraw(db: AsyncSession, message_id: str) -> None:
    """Keep a user's message from every model: its turn will not begin."""
    await db.execute(update(messages).where(messages.c.id == message_id).values(status="interrupted"))


async def find_streaming(db: AsyncSession, session_db_id: int, turn_db_id: int) -> Row[Any] | None:
    """Return the message of a turn that is still streaming."""
    found = await db.execute(
        select(messages).where(
            messages.c.session_db_id == session_db_id,
            messages.c.turn_db_id == turn_db_id,
            messages.c.status == "streaming",
        )
    )
    return found.first()


async def list_page(
    db: AsyncSession, session_db_id: int, *, after: tuple[int, int] | None, limit: int
) -> list[Row[Any]]:
    """Return messages in order; ``after`` is the (turn_db_id, seq) of the last one seen."""
    statement: Select[Any] = (
        select(messages, turns.c.id.label("turn_id"))
        .join(turns, turns.c.db_id == messages.c.turn_db_id)
        .where(messages.c.session_db_id == session_db_id)
    )
    if after is not None:
        turn, seq = after
        later = and_(messages.c.turn_db_id == turn, messages.c.seq > seq)
        statement = statement.where(or_(messages.c.turn_db_id > turn, later))
    found = await db.execute(statement.order_by(messages.c.turn_db_id, messages.c.seq).limit(limit))
    return list(found.all())


async def list_transcript(db: AsyncSession, session_db_id: int, turn_db_id: int) -> list[Row[Any]]:
    """Return the completed messages up to and with a turn, in order: what a model may see of the session."""
    statement: Select[Any] = (
        select(
            messages.c.role,
            messages.c.content,
            messages.c.name,
            messages.c.tool_call_id,
            messages.c.tool_calls,
        )
        .where(
            messages.c.session_db_id == session_db_id,
            messages.c.turn_db_id <= turn_db_id,
            messages.c.status == "completed",
        )
        .order_by(messages.c.turn_db_id, messages.c.seq)
    )
    found = await db.execute(statement)
    return list(found.all())
