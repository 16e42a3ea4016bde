"""How databases find what is asked for again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from codelab.agent.repository import sessions, turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db import Database

#: What is asked of turns at each step of one; a session may have had any number of them.
ASKED: dict[str, Callable[[AsyncSession], Awaitable[Any]]] = {
    "find": lambda db: sessions.find(db, "ada", "s"),
    "list_live": lambda db: sessions.list_live(db, "ada", limit=1, before=None, text=None),
    "find_active": lambda db: turns.find_active(db, 1),
    "find_open": lambda db: turns.find_open(db, 1, "t"),
    "next_queued": lambda db: turns.next_queued(db, 1),
    "list_queued": lambda db: turns.list_queued(db, 1),
    "list_marked": lambda db: turns.list_marked(db, 1),
}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ASKED)
async def test_turns_that_have_ended_are_not_looked_at(database: Database, name: str) -> None:
    """Open turns are found by their own index or by their id, not among all that a session ever had."""
    asked: list[tuple[str, Any]] = []
    event.listen(
        database.engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, *_: asked.append((statement, values)),
    )
    async with database.read() as session:
        await ASKED[name](session)
        (statement, values) = next(one for one in asked if one[0].startswith("SELECT"))
        connection: Any = session.get_bind()
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        (used,) = [row.detail for row in plan if row.detail.startswith("SEARCH turns")]

    assert any(index in used for index in ("uq_turns_active", "ix_turns_open", "sqlite_autoindex_turns"))
