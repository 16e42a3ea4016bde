"""Whether two URLs name one database."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.errors import StartError
from codelab.storage.rows import open_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from codelab.db.urls import DatabaseUrl
    from codelab.storage.snapshot import Snapshot

__all__ = ("refuse_same",)


async def refuse_same(snapshot: Snapshot, target: DatabaseUrl) -> None:
    """Raise ``StartError`` when a target is the database that the snapshot reads, by whatever name."""
    if await _is_same(snapshot, target):
        raise StartError(f"{target.variable} ({target.masked}): this is the database that is read; name another.")


async def _is_same(snapshot: Snapshot, target: DatabaseUrl) -> bool:
    source = snapshot.url
    if source.path is not None or target.path is not None:
        both = source.path is not None and target.path is not None and target.path.exists()
        return both and source.path is not None and target.path is not None and source.path.samefile(target.path)
    # Host names and sockets have many spellings. A lock that one connection holds and the other sees has one place.
    number = secrets.randbits(62)
    await snapshot.rows.call(_lock, number)
    async with open_rows(target, writing=True) as rows, rows.transaction():
        return not await rows.call(_lock, number)


def _lock(connection: Connection, number: int) -> bool:
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:number)"), {"number": number}).scalar_one())
