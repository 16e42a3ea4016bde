"""SQL of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Select, Table, and_, bindparam, insert, or_, select, update

from codelab.agent.models import Message, Turn
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("add", "complete", "find_question", "find_streaming", "list_before", "list_page", "move", "withdraw")

messages = cast("Table", Message.__table__)
turns = cast("Table", Turn.__table__)

# Built once: to build a statement anew costs more than to run it.
_ADD = insert(messages)
_SET = update(messages).where(messages.c.id == bindparam("key"))
_OF_SESSION = messages.c.session_db_id == bindparam("session")
_OF_TURN = messages.c.turn_db_id == bindparam("turn")
_STREAMING = select(messages).where(_OF_SESSION, _OF_TURN, messages.c.status == "streaming")
_PAGE: Select[Any] = (
    select(messages, turns.c.id.label("turn_id"))
    .join(turns, turns.c.db_id == messages.c.turn_db_id)
    .where(_OF_SESSION)
    .order_by(messages.c.turn_db_id, messages.c.seq)
    .limit(bindparam("count"))
)
_PAGE_AFTER = _PAGE.where(
    or_(messages.c.turn_db_id > bindparam("turn"), and_(_OF_TURN, messages.c.seq > bindparam("seen")))
)
_SEEN: Select[Any] = select(
    messages.c.turn_db_id,
    messages.c.seq,
    messages.c.role,
    messages.c.content,
    messages.c.name,
    messages.c.tool_call_id,
    messages.c.tool_calls,
).where(_OF_SESSION, messages.c.status == "completed")
_SEEN_BEFORE = (
    _SEEN.where(
        # The first condition bounds the index scan; the second is exact.
        messages.c.turn_db_id <= bindparam("turn"),
        or_(messages.c.turn_db_id < bindparam("turn"), messages.c.seq < bindparam("seen")),
    )
    .order_by(messages.c.turn_db_id.desc(), messages.c.seq.desc())
    .limit(bindparam("count"))
)
_QUESTION = _SEEN.where(_OF_TURN, messages.c.role == "user").order_by(messages.c.seq).limit(1)


async def add(
    db: AsyncSession, *, message_id: str, session_db_id: int, turn_db_id: int, seq: int, **values: Any
) -> None:
    """Insert a message; its place in the transcript is (``turn_db_id``, ``seq``)."""
    place = {"session_db_id": session_db_id, "turn_db_id": turn_db_id, "seq": seq}
    await db.execute(_ADD, {"id": message_id, **place, "timestamp": now(), "status": "completed", **values})


async def complete(db: AsyncSession, message_id: str, *, status: str, content: str, **values: Any) -> None:
    """End a message that was streaming."""
    await db.execute(_SET, {"key": message_id, "status": status, "content": content, **values})


async def withdraw(db: AsyncSession, message_id: str) -> None:
    """Keep a user's message from every model: its turn will not begin."""
    await db.execute(_SET, {"key": message_id, "status": "interrupted"})


async def move(db: AsyncSession, message_id: str, turn_db_id: int, seq: int) -> None:
    """Give a message another place in the transcript."""
    await db.execute(_SET, {"key": message_id, "turn_db_id": turn_db_id, "seq": seq})


async def find_streaming(db: AsyncSession, session_db_id: int, turn_db_id: int) -> Row[Any] | None:
    """Return the message of a turn that is still streaming."""
    found = await db.execute(_STREAMING, {"session": session_db_id, "turn": turn_db_id})
    return found.first()


async def list_page(
    db: AsyncSession, session_db_id: int, *, after: tuple[int, int] | None, limit: int
) -> list[Row[Any]]:
    """Return messages in order; ``after`` is the (turn_db_id, seq) of the last one seen."""
    values = {"session": session_db_id, "count": limit}
    if after is None:
        found = await db.execute(_PAGE, values)
    else:
        turn, seq = after
        found = await db.execute(_PAGE_AFTER, values | {"turn": turn, "seen": seq})
    return list(found.all())


async def list_before(db: AsyncSession, session_db_id: int, before: tuple[int, int], *, limit: int) -> list[Row[Any]]:
    """Return what a model may see before a place (turn_db_id, seq), the newest first."""
    turn, seq = before
    found = await db.execute(_SEEN_BEFORE, {"session": session_db_id, "turn": turn, "seen": seq, "count": limit})
    return list(found.all())


async def find_question(db: AsyncSession, session_db_id: int, turn_db_id: int) -> Row[Any] | None:
    """Return the message that opened a turn."""
    found = await db.execute(_QUESTION, {"session": session_db_id, "turn": turn_db_id})
    row: Row[Any] | None = found.first()
    return row
