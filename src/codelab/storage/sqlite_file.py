"""Copy a SQLite database while others write to it, prove a copy whole, and put one in the place of another."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from codelab.db.faults import reason
from codelab.errors import CodelabError
from codelab.storage.backup_files import sync, write_private
from codelab.storage.values import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.db.schema import ModuleSchema
    from codelab.storage.load import Progress

__all__ = ("copy_file", "prove_file", "swap_file")

#: Pages between two looks at the progress.
STEP = 4096
BUSY_SECONDS = 10.0


def copy_file(source: Path, target: Path, what: str, progress: Progress) -> None:
    """Copy a database to an empty file with SQLite's backup API, as it is at one instant, beside those who write.

    The source's transaction is held open: without it every commit of a writer makes the copy begin again, and beside a
    busy one it never ends.
    """
    told = 0

    def tell(_status: int, remaining: int, total: int) -> None:
        nonlocal told
        if not told:
            progress.begin(what, total)
        progress.advance(total - remaining - told)
        told = total - remaining

    with (
        contextlib.closing(_open(source, "ro")) as reader,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writer,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(writer, pages=STEP, progress=tell, sleep=0)
        # One file alone, without the two of WAL mode beside it.
        writer.execute("PRAGMA journal_mode = DELETE")
    sync(target)


def prove_file(file: Path, schema: ModuleSchema) -> tuple[str, dict[str, int]]:
    """Check every page and reference of a copy; return the revision and the rows of each table.

    Raises:
        CodelabError: it is not whole.
    """
    try:
        with contextlib.closing(_open(file, "ro")) as connection:
            said = [line for (line,) in connection.execute("PRAGMA integrity_check(1)")]
            if said != ["ok"]:
                raise CodelabError(f"{file}: is damaged: {said[0].splitlines()[0]}")
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if schema.unfinished_table in there:
                raise CodelabError(f"{file}: is not whole: something that filled it did not come to its end")
            (revision,) = connection.execute(f"SELECT version_num FROM {schema.version_table}").fetchone()
            names = sorted(there & set(schema.metadata.tables))
            count = "SELECT count(*) FROM {}"
            counts = {name: connection.execute(count.format(quoted(name))).fetchone()[0] for name in names}
    except (sqlite3.Error, TypeError) as error:
        raise CodelabError(f"{file}: is no whole database of module {schema.module}: {reason(error)}") from None
    return str(revision), counts


def swap_file(new: Path, place: Path, kept: Path) -> bool:
    """Put a database where another one is, which is kept under the name ``kept``; tell whether there was another.

    At every instant a whole database is at its place: the old one is closed first, so that nothing of it is left in a
    WAL that would be taken for the new one's.

    Raises:
        CodelabError: the old database is in use or damaged; nothing was changed.
    """
    beside = [place.with_name(f"{place.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]
    there = place.exists()
    if there:
        _close(place)
    if left := next((path for path in beside if path.exists()), None):
        raise CodelabError(
            f"{left}: is there still, and may hold what {place} has not yet; open that database once "
            "(codelab db status), or move the files away, and restore again"
        )
    if there:
        try:
            os.link(place, kept)
        except OSError:  # a file system without hard links; a rename would leave the place empty for an instant
            write_private(kept)
            shutil.copyfile(place, kept)
            sync(kept)
    new.replace(place)
    sync(place.parent)
    return there


def _close(place: Path) -> None:
    """Take everything of a WAL into the file, and the WAL away."""
    try:
        with contextlib.closing(_open(place, "rw")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.Error as error:
        raise CodelabError(
            f"{place}: the old database cannot be closed: {reason(error)}. Is another program using it? If it is "
            f"damaged, move it away with its -wal and -shm files, and restore again; nothing was changed"
        ) from None
    if mode != "delete":
        raise CodelabError(f"{place}: another program uses the old database; nothing was changed")


def _open(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
