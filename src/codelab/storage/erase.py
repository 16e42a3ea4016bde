"""Take one person's data out of a module's database, for good, also while a server uses it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from codelab.db.engine import writing
from codelab.db.faults import FAILURES, reason
from codelab.db.unfinished import refuse_unfinished
from codelab.db.writer import expect_last, write_last
from codelab.errors import StartError
from codelab.storage.layout import revision_of, tables_at
from codelab.storage.person import person_roots
from codelab.storage.subset import owned
from codelab.storage.values import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from codelab.db import Database
    from codelab.storage.module import ModuleStorage

__all__ = ("Erased", "erase")

#: Seconds that a server has to answer, and that readers of the old rows have to come to their end.
WAIT = 5.0


class Erased(msgspec.Struct, frozen=True):
    """What was removed: rows by table, rows of the trail that were emptied, and whether no byte is left in the files.

    PostgreSQL frees the place of removed rows when it vacuums, and its log and copies of it may keep them longer.
    """

    rows: dict[str, int]
    emptied: int
    overwritten: bool


async def erase(database: Database, storage: ModuleStorage, person: str, *, dry_run: bool = False) -> Erased:
    """Remove what belongs to the person with this id, in one transaction; ``dry_run`` takes it back.

    Rows of the trail stay without their content, and one is added that says so.

    Raises:
        StartError: the database cannot be used.
    """
    where = f"{database.url.variable} ({database.url.masked})"
    await database.reach(WAIT)
    try:
        async with AsyncSession(writing(database.engine)) as session:
            rows, emptied = await _remove(session, storage, person, where)
            if dry_run:
                await session.rollback()
            else:
                await session.commit()
    except FAILURES as error:
        raise StartError(f"{where}: {reason(error)}.") from None
    path = database.url.path
    overwritten = not dry_run and path is not None and await asyncio.to_thread(_empty_log, path)
    return Erased(rows, emptied, overwritten)


async def _remove(session: AsyncSession, storage: ModuleStorage, person: str, where: str) -> tuple[dict[str, int], int]:
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        # What is deleted is overwritten with zeros, in the tables and in their indexes.
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")
    names, conditions = await connection.run_sync(_conditions, storage, person, where)
    expect_last(session)
    # First, since the trail must not lose whom it tells of by a foreign key, unproven.
    emptied = 0 if storage.erase_trail is None else await storage.erase_trail(session, person)
    rows = {}
    # Children first: which rows are theirs is told by the rows of their parents.
    for name in reversed(names):
        if name in conditions:
            found = await connection.exec_driver_sql(f"DELETE FROM {quoted(name)} WHERE {conditions[name]}")
            rows[name] = found.rowcount
    await write_last(session)
    return rows, emptied


def _conditions(
    connection: Connection, storage: ModuleStorage, person: str, where: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    refuse_unfinished(connection, storage.schema, where)
    revision = revision_of(connection, storage.schema, where)
    if revision is None:
        raise StartError(f"{where}: it has no tables of module {storage.schema.module}.")
    if connection.dialect.name == "postgresql":
        # A row that a server adds meanwhile would be left without its parent, or keep it from being removed.
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
    trail = storage.trail.table if storage.trail is not None else None
    names = tuple(name for name in tables_at(storage.schema, revision) if name != trail)
    return names, owned(connection, names, person_roots(storage, person))


def _empty_log(path: Path) -> bool:
    """Move everything into the file and cut its log; False while a reader still needs the old rows."""
    with contextlib.closing(sqlite3.connect(path, timeout=WAIT)) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
