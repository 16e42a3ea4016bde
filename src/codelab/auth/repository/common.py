"""What the other files of the repository share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("insert_if_absent", "lock")


async def lock(session: AsyncSession, name: str) -> None:
    """Wait for the lock of this name and hold it to the end of the transaction.

    SQLite needs none: its unit of work began with ``BEGIN IMMEDIATE``, so it is the only one.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


async def insert_if_absent(session: AsyncSession, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless something that is unique in it is taken; tell whether it was inserted."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
    return (await session.execute(statement)).one_or_none() is not None
