"""Lists and histories, in small tables and in ones that have grown ten times."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Table, insert, select, text, update

from benchmarks.processes import codelab, get, load
from benchmarks.sides import Row, rounds_of
from codelab.agent.models import AgentContext, Message, Session, SessionCounter, Turn
from codelab.agent.storage import SCHEMA
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from benchmarks.processes import Codelab
    from tests.support.databases import PostgresServer

__all__ = ("measure",)

SMALL = (1_000, 10_000)
GROWN = 10
_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
_ROWS = 2_000


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[Row]:
    """Ask with one connection, so that the time of one answer is measured, of both sizes in turn."""
    async with codelab(folder / uuid4().hex, server) as small, codelab(folder / uuid4().hex, server) as big:
        small_session = await _fill(small, *SMALL)
        big_session = await _fill(big, *(count * GROWN for count in SMALL))

        def ask(side: Codelab, path: str) -> Callable[[], Awaitable[dict[str, float]]]:
            arguments = ("--connections", "1", "--seconds", str(seconds))
            return lambda: load("load", side.url, get(path, side.token), *arguments)

        lists = "/api/v1/sessions?limit=100"
        medians = await rounds_of(
            {
                "list": ask(big, lists),
                "list of few": ask(small, lists),
                "history": ask(big, f"/api/v1/sessions/{big_session}/history?limit=100"),
                "history of few": ask(small, f"/api/v1/sessions/{small_session}/history?limit=100"),
            },
            rounds,
        )
    return [
        _row("100 of 10,000 sessions; beside it of 1,000", medians["list"], medians["list of few"]),
        _row("100 of 100,000 messages; beside it of 10,000", medians["history"], medians["history of few"]),
    ]


def _row(what: str, big: dict[str, float], small: dict[str, float]) -> Row:
    return Row(what, big["p50"] * 1e3, "ms", small["p50"] * 1e3, below=5)


async def _fill(side: Codelab, sessions: int, messages: int) -> str:
    """Add sessions of the person who is logged in, and messages to one of them; return its id."""
    session_id = await side.session()
    database = Database(parse_url(side.database, SCHEMA.variable), SCHEMA)
    await database.start(5)
    try:
        await database.write_alone(lambda tx: _add(tx.session, session_id, sessions, messages))
        if database.url.path is None:
            # PostgreSQL does so itself within a minute of such a load, which would fall into the measurement.
            await database.write_alone(lambda tx: tx.session.execute(text("ANALYZE")))
    finally:
        await database.stop()
    return session_id


async def _add(db: AsyncSession, session_id: str, sessions: int, messages: int) -> None:
    table: Table = Session.__table__  # type: ignore[assignment]  # its declared type is the wider FromClause
    found = (await db.execute(select(table.c.db_id, table.c.owner_id).where(table.c.id == session_id))).one()
    await _insert(
        db,
        table,
        [
            {
                "id": str(uuid4()),
                "owner_id": found.owner_id,
                "title": f"Session {n}",
                "created_at": _AT,
                "updated_at": _AT,
                "last_activity": _AT,
                "is_active": True,
                "metadata_json": {},
                "message_count": 0,
                "last_seq": 0,
            }
            for n in range(sessions)
        ],
    )
    keys = (await db.execute(select(table.c.db_id).where(table.c.db_id != found.db_id))).scalars().all()
    context = {"current_agent": "ask", "created_at": _AT, "updated_at": _AT, "switch_count": 0}
    await _insert(db, AgentContext.__table__, [context | {"id": str(uuid4()), "session_db_id": key} for key in keys])
    await db.execute(update(SessionCounter).values(live_sessions=sessions + 1))
    turn = {"message_id": "m0", "state": "completed", "steps": 1, "input_tokens": 0, "output_tokens": 0}
    turns = [
        turn | {"id": str(uuid4()), "session_db_id": found.db_id, "created_at": _AT, "ended_at": _AT, "folded_at": _AT}
        for _ in range(messages // 10)
    ]
    await _insert(db, Turn.__table__, turns)
    keys = (await db.execute(select(Turn.db_id).where(Turn.session_db_id == found.db_id))).scalars().all()
    await _insert(
        db,
        Message.__table__,
        [
            {
                "id": str(uuid4()),
                "session_db_id": found.db_id,
                "turn_db_id": keys[n // 10],
                "seq": n + 1,
                "role": "assistant" if n % 2 else "user",
                "status": "completed",
                "content": json.dumps(list(range(60))),
                "timestamp": _AT,
            }
            for n in range(messages)
        ],
    )
    await db.execute(update(Session).where(Session.db_id == found.db_id).values(message_count=messages))


async def _insert(db: AsyncSession, table: object, rows: list[dict[str, object]]) -> None:
    for first in range(0, len(rows), _ROWS):
        await db.execute(insert(table), rows[first : first + _ROWS])  # type: ignore[arg-type]  # as in _add
        await asyncio.sleep(0)
