"""SQL of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
from sqlalchemy import Select, Table, insert, select, tuple_, update

from codelab.agent.models import Message, Turn
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.schemas import CallUsage

__all__ = (
    "add",
    "complete",
    "find_question",
    "find_status",
    "find_streaming",
    "list_before",
    "list_page",
    "move",
    "set_usage",
    "withdraw",
)

messages = cast("Table", Message.__table__)
turns = cast("Table", Turn.__table__)

#: Where a message is, the session included: else PostgreSQL may walk through the turns of every session.
place = tuple_(messages.c.session_db_id, messages.c.turn_db_id, messages.c.seq)
#: What a model may see of messages: those that are whole.
_SEEN: Select[Any] = select(
    messages.c.id,
    messages.c.turn_db_id,
    messages.c.seq,
    messages.c.role,
    messages.c.content,
    messages.c.model,
    messages.c.name,
    messages.c.tool_call_id,
    messages.c.tool_calls,
    messages.c.reasoning,
    messages.c.images,
).where(messages.c.status == "completed")


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


async def set_usage(db: AsyncSession, message_id: str, usage: CallUsage) -> None:
    """Say what the call that makes a message has used so far."""
    await db.execute(update(messages).where(messages.c.id == message_id).values(msgspec.structs.asdict(usage)))


async def withdraw(db: AsyncSession, message_id: str) -> None:
    """Keep a user's message from every model: its turn will not begin."""
    await db.execute(update(messages).where(messages.c.id == message_id).values(status="interrupted"))


async def move(db: AsyncSession, message_id: str, turn_db_id: int, seq: int) -> None:
    """Give a message another place in the transcript."""
    await db.execute(update(messages).where(messages.c.id == message_id).values(turn_db_id=turn_db_id, seq=seq))


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


async def find_status(db: AsyncSession, message_id: str) -> str | None:
    """Return the status of a message, None where there is none."""
    found = await db.execute(select(messages.c.status).where(messages.c.id == message_id))
    return found.scalar_one_or_none()


async def list_page(
    db: AsyncSession, session_db_id: int, *, after: tuple[int, int] | None, limit: int
) -> list[Row[Any]]:
    """Return messages in order; ``after`` is the (turn_db_id, seq) of the last one seen."""
    return list((await db.execute(_page(session_db_id, after or (0, 0), limit))).all())


def _page(session_db_id: int, after: tuple[int, int], limit: int) -> Select[Any]:
    return (
        select(messages, turns.c.id.label("turn_id"))
        .join(turns, turns.c.db_id == messages.c.turn_db_id)
        .where(place > tuple_(session_db_id, *after), place < tuple_(session_db_id + 1, 0, 0))
        .order_by(messages.c.session_db_id, messages.c.turn_db_id, messages.c.seq)
        .limit(limit)
    )


async def list_before(
    db: AsyncSession, session_db_id: int, before: tuple[int, int], *, after: tuple[int, int] = (0, 0), limit: int
) -> list[Row[Any]]:
    """Return what a model may see between two places (turn_db_id, seq), the newest first."""
    return list((await db.execute(_before(session_db_id, before, after, limit))).all())


def _before(session_db_id: int, before: tuple[int, int], after: tuple[int, int], limit: int) -> Select[Any]:
    return (
        _SEEN.where(place < tuple_(session_db_id, *before), place > tuple_(session_db_id, *after))
        .order_by(messages.c.session_db_id.desc(), messages.c.turn_db_id.desc(), messages.c.seq.desc())
        .limit(limit)
    )


async def find_question(db: AsyncSession, session_db_id: int, turn_db_id: int) -> Row[Any] | None:
    """Return the message that opened a turn."""
    statement = _SEEN.where(
        messages.c.session_db_id == session_db_id, messages.c.turn_db_id == turn_db_id, messages.c.role == "user"
    )
    found = await db.execute(statement.order_by(messages.c.seq).limit(1))
    row: Row[Any] | None = found.first()
    return row
