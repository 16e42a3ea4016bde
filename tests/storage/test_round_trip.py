"""Everything that a column takes, through both databases and an archive: nothing is lost, nothing changes."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.db import parse_url
from codelab.db.engine import create_engine
from codelab.installation import MODULES
from tests.storage.commands import call, digests, document
from tests.storage.hostile import ROWS, contents
from tests.support.databases import DatabaseUrls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METADATA = {name: storage.schema.metadata for name, storage in MODULES.items()}


def test_hostile_rows_survive_everything(hostile: DatabaseUrls, make: Callable[[str], str], tmp_path: Path) -> None:
    """SQLite to PostgreSQL to a new SQLite file to an archive, and from there into both: equal at every step."""
    with closing(sqlite3.connect(hostile.agent.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE messages SET content = content || hex(randomblob(4000000)) WHERE seq < 0")
    postgresql, sqlite = make("postgresql"), make("sqlite")
    expected: dict[str, dict[str, tuple[int, str]]] = {}
    for source in (hostile.agent, hostile.auth):
        expected |= digests(document("copy", "--from", source, "--to", postgresql))
    assert all(rows >= ROWS for tables in expected.values() for rows, _ in tables.values())

    steps = {}
    # One URL with both modules: none need be named.
    steps["both back"] = digests(document("copy", "--from", postgresql, "--to", sqlite))
    file = str(tmp_path / "all.tar.zst")
    steps["exported"] = digests(document("export", file, databases=DatabaseUrls(sqlite, sqlite)))
    imported = {dialect: DatabaseUrls(make(dialect), make(dialect)) for dialect in ("sqlite", "postgresql")}
    for dialect, databases in imported.items():
        steps[f"imported {dialect}"] = digests(document("import", file, databases=databases))
    steps["exported again"] = digests(
        document("export", str(tmp_path / "again.tar.zst"), databases=imported["postgresql"])
    )
    for what, found in steps.items():
        assert found == expected, what

    for name, metadata in METADATA.items():
        wanted = contents(getattr(hostile, name), metadata)
        for url in (postgresql, sqlite, *(getattr(databases, name) for databases in imported.values())):
            assert contents(url, metadata) == wanted, url


def test_keys_are_counted_on(hostile: DatabaseUrls, make: Callable[[str], str]) -> None:
    """A row that is made after a copy gets a key that no other row has, on both databases."""

    async def insert(url: str) -> tuple[int, int]:
        engine = create_engine(parse_url(url, "TEST_DB_URL"), "codelab.test")
        async with engine.begin() as connection:
            highest = (await connection.execute(text("SELECT max(db_id) FROM sessions"))).scalar_one()
            made = await connection.execute(
                text(
                    "INSERT INTO sessions (id, owner_id, created_at, updated_at, last_activity, is_active,"
                    " metadata_json, message_count, last_seq) SELECT 'new', :owner, created_at, updated_at,"
                    " last_activity, is_active, metadata_json, 0, 0 FROM sessions LIMIT 1 RETURNING db_id"
                ),
                {"owner": url[:10]},
            )
            key = made.scalar_one()
        await engine.dispose()
        return highest, key

    source = hostile.agent
    for dialect in ("postgresql", "sqlite"):
        target = make(dialect)
        document("copy", "--from", source, "--to", target, "--module", "agent")
        highest, key = asyncio.run(insert(target))
        assert key == highest + 1
        source = target


def test_what_a_person_reads(hostile: DatabaseUrls, make: Callable[[str], str]) -> None:
    """Rows and digests of every table, the rate, and what to do next; no progress where there is no terminal."""
    result = call("copy", "--from", hostile.auth, "--to", make("sqlite"))

    assert (result.exit_code, result.stderr) == (0, "")
    first, *tables, last = result.stdout.splitlines()
    assert first.startswith("auth: ")
    assert " rows copied and verified in " in first
    assert len(tables) == len(METADATA["auth"].tables)
    assert last == "Set AUTH_SERVICE__DB_URL to the new URL to use it."
