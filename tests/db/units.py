"""Units of work for the tests of the writer, and a way to put them into one batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import insert, select

from tests.db.conftest import Note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from codelab.db import Transaction
    from codelab.db.writer import Writer

__all__ = ("Unit", "line_up", "note", "notes", "settle")

Unit: TypeAlias = "Callable[[Transaction], Awaitable[Any]]"


def note(content: str, number: int = 0) -> Unit:
    """Make a unit that inserts one note and returns its text."""

    async def write(transaction: Transaction) -> str:
        await transaction.session.execute(insert(Note).values(text=content, number=number))
        return content

    return write


async def notes(engine: AsyncEngine) -> list[str]:
    """Read what is committed, in the order of insertion."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(Note.text).order_by(Note.id))).scalars())


async def line_up(writer: Writer, *units: Unit) -> list[asyncio.Task[Any]]:
    """Put units into one batch: all wait before the writer, which sleeps, is woken by the first."""
    tasks = [asyncio.create_task(writer.run(unit)) for unit in units]
    await settle(lambda: len(writer._waiting) == len(units))
    return tasks


async def settle(reached: Callable[[], bool]) -> None:
    """Let everybody else run until something is so."""
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0)
