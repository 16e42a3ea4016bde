"""What a database holds, told by digests; and a change behind the program's back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.agent.storage import STORAGE as AGENT
from codelab.auth.storage import STORAGE as AUTH
from codelab.db import parse_url
from codelab.db.engine import create_engine
from codelab.storage.digest import TableDigest
from codelab.storage.snapshot import open_snapshot

if TYPE_CHECKING:
    from codelab.storage import ModuleStorage
    from tests.support.databases import DatabaseUrls

__all__ = ("STORAGES", "both", "digests", "execute")

STORAGES: dict[str, ModuleStorage] = {"agent": AGENT, "auth": AUTH}


async def digests(module: str, url: str) -> dict[str, str]:
    """Name the content of every table of a module."""
    schema = STORAGES[module].schema
    found = {}
    async with open_snapshot(parse_url(url, schema.variable), schema) as snapshot:
        for table in snapshot.tables:
            digest = TableDigest()
            async for batch in snapshot.read(table):
                digest.add(batch.lines)
            found[table.name] = digest.hex
    return found


async def both(databases: DatabaseUrls) -> dict[str, dict[str, str]]:
    """Name the content of every table of both modules."""
    return {"agent": await digests("agent", databases.agent), "auth": await digests("auth", databases.auth)}


async def execute(url: str, *statements: str) -> None:
    """Change a database behind the program's back, without its foreign keys on SQLite."""
    engine = create_engine(parse_url(url, "TEST"), "tests", migrating=True)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await engine.dispose()
