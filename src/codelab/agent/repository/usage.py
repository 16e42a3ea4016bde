"""SQL of what model calls used: sums that are kept, so that nobody has to add up a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Table, bindparam, func, select, update

from codelab.agent.repository.tables import sessions, turns

if TYPE_CHECKING:
    from sqlalchemy import Row, Update
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.schemas import CallUsage

__all__ = ("add", "of_turn")


_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_SUMMED = (*_TOKENS, "cost", "unpriced_calls")


def _add_to(table: Table) -> Update:
    more = {name: func.coalesce(table.c[name], 0) + bindparam(f"more_{name}") for name in _SUMMED}
    return update(table).where(table.c.db_id == bindparam("key")).values(more)


# Built once: to build a statement anew costs more than to run it.
_SUMS_OF_TURN = tuple(turns.c[name] for name in _SUMMED)
_ADD_TO_TURN, _ADD_TO_SESSION = _add_to(turns).returning(*_SUMS_OF_TURN), _add_to(sessions)
_OF_TURN = select(*_SUMS_OF_TURN).where(turns.c.db_id == bindparam("key"))


async def add(
    db: AsyncSession, *, turn_db_id: int, session_db_id: int, usage: CallUsage | None, **fields: Any
) -> Row[Any]:
    """Add a call to the sums of its turn and session; None is one of which nothing is known but that it was made.

    ``fields`` are other columns of the turn that change with it. Returns the sums of the turn.
    """
    known: dict[str, Any] = dict.fromkeys(_TOKENS, 0) | {"cost": None}
    if usage is not None:
        known = msgspec.structs.asdict(usage)
    more = {f"more_{name}": known[name] for name in _TOKENS}
    more |= {"more_cost": known["cost"] or 0, "more_unpriced_calls": int(known["cost"] is None)}
    summed: Row[Any] = (await db.execute(_ADD_TO_TURN, more | {"key": turn_db_id} | fields)).one()
    await db.execute(_ADD_TO_SESSION, more | {"key": session_db_id})
    return summed


async def of_turn(db: AsyncSession, turn_db_id: int) -> Row[Any]:
    """Return the sums of a turn."""
    return (await db.execute(_OF_TURN, {"key": turn_db_id})).one()
