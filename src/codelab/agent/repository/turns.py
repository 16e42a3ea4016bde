"""SQL of turns and of the tool calls in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, bindparam, delete, func, insert, select, text, update

from codelab.agent.repository.tables import calls, messages, turns
from codelab.db import now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "ACTIVE",
    "NO_LEASE",
    "OPEN",
    "OPEN_CALLS",
    "add",
    "add_call",
    "close_call",
    "count_completed",
    "end",
    "ended",
    "find",
    "find_active",
    "find_by_key",
    "find_call",
    "find_last_call",
    "find_newest",
    "find_open",
    "list_marked",
    "list_open_calls",
    "list_queued",
    "next_queued",
    "remove",
    "request_call",
    "resume",
    "set_fields",
    "start",
    "taken_call_ids",
    "wait",
)


#: The lease of a turn that no process works on.
NO_LEASE: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}
OPEN_CALLS = ("awaiting_approval", "requested")

#: Word for word the conditions of two indexes: with parameters in them no planner would use these.
ACTIVE = text("turns.state IN ('running', 'waiting')")
OPEN = text("turns.state IN ('queued', 'running', 'waiting')")

# Built once: to build a statement anew costs more than to run it.
_OF_SESSION = turns.c.session_db_id == bindparam("session")
_QUEUED = and_(OPEN, turns.c.state == "queued")
_ADD = insert(turns).returning(turns)
_SET = update(turns).where(turns.c.db_id == bindparam("key"))
_FIND = select(turns).where(_OF_SESSION, turns.c.id == bindparam("turn"))
_FIND_OPEN = _FIND.where(OPEN)
_ACTIVE = select(turns).where(_OF_SESSION, ACTIVE)
_ACTIVE_LOCKED = _ACTIVE.with_for_update(key_share=True)
# SQLite would rather look through all turns that the session ever had.
_BY_INDEX = (turns, "INDEXED BY ix_turns_open", "sqlite")
_NEXT = select(turns).with_hint(*_BY_INDEX).where(_OF_SESSION, _QUEUED).order_by(turns.c.db_id).limit(1)
_WAITING: Select[Any] = (
    select(turns.c.id, turns.c.message_id, turns.c.created_at, messages.c.content, messages.c.images)
    .join(messages, messages.c.id == turns.c.message_id)
    .with_hint(*_BY_INDEX)
    .where(_OF_SESSION, _QUEUED)
    .order_by(turns.c.db_id)
)
_MARKED: Select[Any] = (
    select(turns.c.db_id, turns.c.message_id, messages.c.metadata_json)
    .join(messages, messages.c.id == turns.c.message_id)
    .with_hint(*_BY_INDEX)
    .where(_OF_SESSION, _QUEUED, messages.c.metadata_json.is_not(None))
    .order_by(turns.c.db_id)
)
_CALL = select(calls).where(calls.c.session_db_id == bindparam("session"), calls.c.call_id == bindparam("call"))
_OPEN_CALLS = (
    select(calls).where(calls.c.turn_db_id == bindparam("turn"), calls.c.state.in_(OPEN_CALLS)).order_by(calls.c.db_id)
)
_LATER = messages.alias("later")
_SPOKEN_SINCE = (
    select(_LATER.c.id)
    .where(_LATER.c.turn_db_id == calls.c.turn_db_id, _LATER.c.role == "user", _LATER.c.seq > calls.c.completed_seq)
    .exists()
)
_LAST_CALL: Select[Any] = (
    select(calls, messages.c.agent, messages.c.model)
    .join(messages, messages.c.id == calls.c.message_id)
    .where(calls.c.turn_db_id == bindparam("turn"), ~_SPOKEN_SINCE)
    .order_by(calls.c.db_id.desc())
    .limit(1)
)
_ADD_CALL = insert(calls)
_SET_CALL = update(calls).where(calls.c.db_id == bindparam("key"))


async def add(
    db: AsyncSession,
    *,
    turn_id: str,
    session_db_id: int,
    message_id: str,
    lease: tuple[str, datetime] | None = None,
) -> Row[Any]:
    """Insert a turn and return it; its internal key orders the turns of a session.

    With a ``lease`` (its owner, and until when) it runs, else it is queued.
    """
    at = now()
    values: dict[str, Any] = {
        "id": turn_id,
        "session_db_id": session_db_id,
        "message_id": message_id,
        "state": "queued",
        "steps": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "created_at": at,
    }
    if lease is not None:
        values |= {"state": "running", "started_at": at, "lease_owner": lease[0], "lease_expires_at": lease[1]}
    added: Row[Any] = (await db.execute(_ADD, values)).one()
    return added


async def find_active(db: AsyncSession, session_db_id: int, *, lock: bool = False) -> Row[Any] | None:
    """Return the turn of a session that is running or waiting; with ``lock`` no other process changes it meanwhile."""
    found = await db.execute(_ACTIVE_LOCKED if lock else _ACTIVE, {"session": session_db_id})
    return found.first()


async def find_open(db: AsyncSession, session_db_id: int, turn_id: str) -> Row[Any] | None:
    """Return a turn of a session if it has not ended."""
    found = await db.execute(_FIND_OPEN, {"session": session_db_id, "turn": turn_id})
    return found.first()


async def find(db: AsyncSession, session_db_id: int, turn_id: str) -> Row[Any] | None:
    """Return a turn of a session, whatever its state."""
    found = await db.execute(_FIND, {"session": session_db_id, "turn": turn_id})
    return found.first()


async def find_by_key(db: AsyncSession, turn_db_id: int) -> Row[Any] | None:
    """Return a turn by its internal key."""
    return (await db.execute(select(turns).where(turns.c.db_id == turn_db_id))).first()


async def find_newest(db: AsyncSession, session_db_id: int) -> Row[Any] | None:
    """Return the turn of a session that began last."""
    found = await db.execute(
        select(turns)
        .where(turns.c.session_db_id == session_db_id, turns.c.state != "queued")
        .order_by(turns.c.db_id.desc())
        .limit(1)
    )
    return found.first()


async def list_queued(db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
    """Return the queued turns of a session with what their messages hold, in their order."""
    return list((await db.execute(_WAITING, {"session": session_db_id})).all())


async def next_queued(db: AsyncSession, session_db_id: int) -> Row[Any] | None:
    """Return the queued turn of a session that is first in line."""
    found = await db.execute(_NEXT, {"session": session_db_id})
    return found.first()


async def list_marked(db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
    """Return the queued turns of a session whose messages have metadata, with it, in their order."""
    return list((await db.execute(_MARKED, {"session": session_db_id})).all())


async def remove(db: AsyncSession, turn_db_id: int) -> None:
    """Remove a queued turn whose message has joined another."""
    await db.execute(delete(turns).where(turns.c.db_id == turn_db_id, turns.c.state == "queued"))


async def start(db: AsyncSession, turn_db_id: int, lease_owner: str, lease_until: datetime) -> None:
    """Make a queued turn the running one."""
    leased = {"lease_owner": lease_owner, "lease_expires_at": lease_until}
    await set_fields(db, turn_db_id, state="running", started_at=now(), **leased)


async def set_fields(db: AsyncSession, turn_db_id: int, **values: Any) -> None:
    """Change columns of a turn."""
    await db.execute(_SET, {"key": turn_db_id, **values})


async def wait(db: AsyncSession, turn_db_id: int) -> None:
    """Let a running turn wait; no process works on it then."""
    await set_fields(db, turn_db_id, state="waiting", **NO_LEASE)


async def resume(db: AsyncSession, turn_db_id: int, lease_owner: str, lease_until: datetime) -> None:
    """Let a waiting turn run again."""
    await set_fields(db, turn_db_id, state="running", lease_owner=lease_owner, lease_expires_at=lease_until)


async def end(
    db: AsyncSession, turn_db_id: int, state: str, *, code: str | None = None, error: str | None = None
) -> None:
    """End a turn: ``completed``, ``failed`` or ``cancelled``."""
    await set_fields(db, turn_db_id, **ended(state), error_code=code, error=error)


def ended(state: str) -> dict[str, Any]:
    """Return what is written into a turn at its end."""
    return {"state": state, "ended_at": now(), **NO_LEASE}


async def add_call(
    db: AsyncSession,
    *,
    session_db_id: int,
    turn_db_id: int,
    message_id: str,
    call_id: str,
    tool_name: str,
    arguments: str,
    state: str,
) -> None:
    """Insert a tool call; ``arguments`` is canonical JSON."""
    values = {
        "session_db_id": session_db_id,
        "turn_db_id": turn_db_id,
        "message_id": message_id,
        "call_id": call_id,
        "tool_name": tool_name,
        "arguments": arguments,
        "edited": False,
        "state": state,
        "created_at": now(),
    }
    await db.execute(_ADD_CALL, values)


async def find_call(db: AsyncSession, session_db_id: int, call_id: str) -> Row[Any] | None:
    """Return a tool call of a session."""
    found = await db.execute(_CALL, {"session": session_db_id, "call": call_id})
    return found.first()


async def taken_call_ids(db: AsyncSession, session_db_id: int, call_ids: list[str]) -> set[str]:
    """Return which of the call ids the session has already."""
    found = await db.execute(
        select(calls.c.call_id).where(calls.c.session_db_id == session_db_id, calls.c.call_id.in_(call_ids))
    )
    return set(found.scalars())


async def list_open_calls(db: AsyncSession, turn_db_id: int) -> list[Row[Any]]:
    """Return the calls of a turn that have no result yet, in order."""
    return list(await db.execute(_OPEN_CALLS, {"turn": turn_db_id}))


async def find_last_call(db: AsyncSession, turn_db_id: int) -> Row[Any] | None:
    """Return the newest call of a turn, with the agent and the model that made it; None when a person spoke since."""
    found = await db.execute(_LAST_CALL, {"turn": turn_db_id})
    row: Row[Any] | None = found.first()
    return row


async def count_completed(db: AsyncSession, turn_db_id: int, tool_name: str) -> int:
    """Return how many calls of a tool have succeeded in a turn."""
    statement = select(func.count()).where(
        calls.c.turn_db_id == turn_db_id, calls.c.tool_name == tool_name, calls.c.state == "completed"
    )
    return (await db.execute(statement)).scalar_one()


async def request_call(db: AsyncSession, call_db_id: int, arguments: str, *, edited: bool) -> None:
    """Hand an approved call to the client, with the arguments that were approved."""
    values = {"state": "requested", "arguments": arguments, "edited": edited}
    await db.execute(_SET_CALL, {"key": call_db_id, **values})


async def close_call(db: AsyncSession, call_db_id: int, state: str, completed_seq: int) -> None:
    """End a call; ``completed_seq`` is the ``seq`` of its ``tool.completed`` event."""
    values = {"state": state, "completed_seq": completed_seq, "completed_at": now()}
    await db.execute(_SET_CALL, {"key": call_db_id, **values})
