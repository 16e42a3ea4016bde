"""Durable small writes: the grouping writer beside one transaction for each write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker

from benchmarks.sides import Row, compare, fresh_database, rate
from codelab.db import parse_url
from codelab.db.engine import create_engine, writing
from codelab.db.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.db import Transaction
    from tests.support.databases import PostgresServer

__all__ = ("measure",)

INSERT = text("INSERT INTO bench (value) VALUES (:value)")


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[Row]:
    """Insert one row at a time from 16 and 64 tasks."""
    engine = create_engine(parse_url(fresh_database(folder, server), "BENCH"), "codelab.bench")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE bench (value INTEGER)"))
    sessions = async_sessionmaker(writing(engine))
    writer = Writer(writing(engine))
    writer.start()
    turn = asyncio.Lock()  # without it SQLite's own busy waiting would be measured

    async def one_transaction() -> None:
        async with turn, sessions() as session:
            await session.execute(INSERT, {"value": 1})
            await session.commit()

    async def unit(tx: Transaction) -> None:
        await tx.session.execute(INSERT, {"value": 1})

    try:
        return await compare(
            {
                "a row per transaction, 16 tasks": lambda: rate(one_transaction, 16, seconds),
                "a row through the grouping writer, 16 tasks": lambda: rate(lambda: writer.run(unit), 16, seconds),
                "a row through the grouping writer, 64 tasks": lambda: rate(lambda: writer.run(unit), 64, seconds),
            },
            rounds,
        )
    finally:
        await writer.stop()
        await engine.dispose()
