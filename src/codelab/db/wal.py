"""Keep SQLite's write-ahead log small."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("checkpoint",)


async def checkpoint(path: Path) -> bool:
    """Move the log of a file into the database and empty it; return whether it is empty now.

    Nobody waits for it: the copying is done beside readers and writers (PASSIVE), and where one of them is in the way
    of the emptying (TRUNCATE) it is left for the next time.
    """
    return await asyncio.to_thread(_checkpoint, path)


def _checkpoint(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return not busy
    except sqlite3.OperationalError:  # locked, or not there any more
        return False
