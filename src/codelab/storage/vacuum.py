"""Give the space of rows that are gone back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from sqlalchemy import inspect, text

from codelab.db.engine import create_engine
from codelab.db.faults import FAILURES, reason
from codelab.db.serving import file_is_served
from codelab.errors import CodelabError, StartError
from codelab.storage.values import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl

__all__ = ("Vacuumed", "vacuum")

BUSY_SECONDS = 60.0


class Vacuumed(msgspec.Struct, kw_only=True):
    """Sizes in bytes; of PostgreSQL, those of the module's tables with their indexes."""

    module: str
    before: int
    after: int


async def vacuum(url: DatabaseUrl, schema: ModuleSchema, modules: Sequence[str], *, force: bool) -> Vacuumed:
    """Give space back.

    SQLite writes the whole file anew, and nobody else writes meanwhile: it is refused while a server serves one of
    ``modules`` in that file, unless ``force``. PostgreSQL's VACUUM works beside writers; it leaves the files as large
    as they are and lets new rows fill them.

    Raises:
        StartError: the database cannot be reached, or a server uses it.
        CodelabError: there is not enough free space.
    """
    where = f"{url.variable} ({url.masked})"
    try:
        if url.path is None:
            return await _vacuum_tables(url, schema)
        if not url.path.exists():
            raise StartError(f"{where}: there is no file {url.path}.")
        if not force and any(file_is_served(url.path, module) for module in modules):
            raise StartError(
                f"{where}: a codelab server uses this database, and nobody can write while SQLite writes the file "
                "anew; stop the server, or let its writers wait with --force."
            )
        before, after = await asyncio.to_thread(_vacuum_file, url.path)
    except FAILURES as error:
        raise StartError(f"{where}: {reason(error)}.") from None
    return Vacuumed(module=schema.module, before=before, after=after)


def _vacuum_file(path: Path) -> tuple[int, int]:
    wal = path.with_name(f"{path.name}-wal")
    before = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    # SQLite builds the new file in a temporary one and writes it through the WAL: twice the size at most.
    needed, free = 2 * before, shutil.disk_usage(path.parent).free
    if free < needed:
        raise CodelabError(f"{path}: {needed:,} bytes of free space are needed beside it, and {free:,} are there")
    place = f"file:{quote(str(path))}?mode=rw"
    with contextlib.closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=BUSY_SECONDS)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        after = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    return before, after


async def _vacuum_tables(url: DatabaseUrl, schema: ModuleSchema) -> Vacuumed:
    engine = create_engine(url, f"codelab.{schema.module}.vacuum", migrating=True)
    size = text(
        "SELECT coalesce(sum(pg_total_relation_size(to_regclass(quote_ident(n)))), 0)"
        " FROM unnest(CAST(:names AS text[])) n"
    )
    try:
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            present = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
            names = sorted(present & set(schema.metadata.tables))
            before = int((await connection.execute(size, {"names": names})).scalar_one())
            for name in names:
                await connection.execute(text(f"VACUUM (ANALYZE) {quoted(name)}"))
            after = int((await connection.execute(size, {"names": names})).scalar_one())
    finally:
        await engine.dispose()
    return Vacuumed(module=schema.module, before=before, after=after)
