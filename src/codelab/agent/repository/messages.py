"""SQL of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, Select, Tuple, bindparam, insert, select, tuple_, update

from codelab.agent.repository.tables import messages, turns
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


_PLACE = ("session_db_id", "turn_db_id", "seq")


def _place(prefix: str) -> Tuple:
    return tuple_(*(bindparam(f"{prefix}_{name}", type_=BigInteger) for name in _PLACE))


def _bounds(after: tuple[int, int, int], before: tuple[int, int, int]) -> dict[str, int]:
    bounds = (("after", after), ("before", before))
    return {f"{prefix}_{name}": part for prefix, place in bounds for name, part in zip(_PLACE, place, strict=True)}


# Built once: to build a statement anew costs more than to run it. Where a message is includes the session: else
# PostgreSQL may walk through the turns of every session.
_ORDER = tuple(messages.c[name] for name in _PLACE)
_WITHIN = (tuple_(*_ORDER) > _place("after"), tuple_(*_ORDER) < _place("before"))
_ADD = insert(messages)
_SET = update(messages).where(messages.c.id == bindparam("key"))
_COMPLETE = _SET.where(messages.c.status == "streaming").returning(messages.c.id)
_OF_TURN = (messages.c.session_db_id == bindparam("session"), messages.c.turn_db_id == bindparam("turn"))
_STREAMING = select(messages).where(*_OF_TURN, messages.c.status == "streaming")
_PAGE: Select[Any] = (
    select(messages, turns.c.id.label("turn_id"))
    .join(turns, turns.c.db_id == messages.c.turn_db_id)
    .where(*_WITHIN)
    .order_by(*_ORDER)
    .limit(bindparam("count"))
)
#: What a model may see of messages: those that are whole.
_SEEN: Select[Any] = select(
    messages.c.id,
    messages.c.turn_db_id,
    messages.c.seq,
    messages.c.role,
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
_SEEN_BEFORE = _SEEN.where(*_WITHIN).order_by(*(column.desc() for column in _ORDER)).limit(bindparam("count"))
_QUESTION = _SEEN.where(*_OF_TURN, messages.c.role == "user").order_by(messages.c.seq).limit(1)


async def add(
    db: AsyncSession, *, message_id: str, session_db_id: int, turn_db_id: int, seq: int, **values: Any
) -> None:
    """Insert a message; its place in the transcript is (``turn_db_id``, ``seq``)."""
    place = {"session_db_id": session_db_id, "turn_db_id": turn_db_id, "seq": seq}
    await db.execute(_ADD, {"id": message_id, **place, "timestamp": now(), "status": "completed", **values})


async def complete(
    db: AsyncSession, message_id: str, *, status: str, content: str, usage: CallUsage | None = None, **values: Any
) -> bool:
    """End a message that was streaming; return whether there was one."""
    used = {} if usage is None else msgspec.structs.asdict(usage)
    ended = await db.execute(_COMPLETE, {"key": message_id, "status": status, "content": content, **values, **used})
    return ended.first() is not None


async def set_usage(db: AsyncSession, message_id: str, usage: CallUsage) -> None:
    """Say what the call that makes a message has used so far."""
    await db.execute(_SET, {"key": message_id} | msgspec.structs.asdict(usage))


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


async def find_status(db: AsyncSession, message_id: str) -> str | None:
    """Return the status of a message, None where there is none."""
    found = await db.execute(select(messages.c.status).where(messages.c.id == message_id))
    return found.scalar_one_or_none()


async def list_page(
    db: AsyncSession, session_db_id: int, *, after: tuple[int, int] | None, limit: int
) -> list[Row[Any]]:
    """Return messages in order; ``after`` is the (turn_db_id, seq) of the last one seen."""
    values = _bounds((session_db_id, *(after or (0, 0))), (session_db_id + 1, 0, 0))
    return list((await db.execute(_PAGE, values | {"count": limit})).all())


async def list_before(
    db: AsyncSession, session_db_id: int, before: tuple[int, int], *, after: tuple[int, int] = (0, 0), limit: int
) -> list[Row[Any]]:
    """Return what a model may see between two places (turn_db_id, seq), the newest first."""
    values = _bounds((session_db_id, *after), (session_db_id, *before))
    return list((await db.execute(_SEEN_BEFORE, values | {"count": limit})).all())


async def find_question(db: AsyncSession, session_db_id: int, turn_db_id: int) -> Row[Any] | None:
    """Return the message that opened a turn."""
    found = await db.execute(_QUESTION, {"session": session_db_id, "turn": turn_db_id})
    row: Row[Any] | None = found.first()
    return row
