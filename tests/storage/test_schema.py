"""``codelab db upgrade``, ``downgrade``, ``current``, ``history``, ``status`` and ``vacuum``."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from codelab.db import parse_url
from codelab.db.engine import create_engine
from codelab.db.migrate import find_drift, revisions
from codelab.errors import StartError
from codelab.storage.schema import move_schema, read_revision
from tests.storage.rows import STORAGES, both, digests, execute
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.db.schema import ModuleSchema
    from tests.storage.conftest import Operator
    from tests.support.databases import DatabaseUrls

MODULES = ("agent", "auth")
#: The parent of every other row of each module: re-creating it is what loses child rows.
PARENTS = {"agent": "sessions", "auth": "users"}

LATER = '''
"""A later release re-creates the parent of all rows."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "later", "{head}"

def upgrade():
    with op.batch_alter_table("{parent}", recreate="auto") as batch:
        batch.add_column(sa.Column("later", sa.Text(), nullable=False, server_default="new"))
        batch.alter_column("created_at", nullable=True)
    {slow}

def downgrade():
    with op.batch_alter_table("{parent}") as batch:
        batch.alter_column("created_at", nullable=False)
        batch.drop_column("later")
'''


def later(module: str, folder: Path, slow: str = "") -> ModuleSchema:
    """Make the schema of a release after this one."""
    schema = STORAGES[module].schema
    migrations = folder / f"{module}_migrations"
    shutil.copytree(schema.migrations, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    content = LATER.format(head=revisions(schema)[-1].id, parent=PARENTS[module], slow=slow)
    (migrations / "versions" / "later.py").write_text(content, encoding="utf-8")
    return replace(schema, migrations=migrations)


def url_of(module: str, databases: DatabaseUrls) -> str:
    """Return the URL of a module's database."""
    return databases.agent if module == "agent" else databases.auth


@pytest.mark.parametrize("module", MODULES)
async def test_a_filled_database_goes_up_and_down(filled: DatabaseUrls, module: str, tmp_path: Path) -> None:
    """Up to a later release and back, every row of every table is there, child rows too, and the schema as it was."""
    schema = later(module, tmp_path)
    url = parse_url(url_of(module, filled), schema.variable)
    before = await digests(module, url_of(module, filled))
    assert (await move_schema(url, schema, "head", 5))[1] == "later"
    up = await _rows(url_of(module, filled), list(before))
    assert (await move_schema(url, schema, "-1", 5, down=True))[1] == revisions(STORAGES[module].schema)[-1].id

    assert await digests(module, url_of(module, filled)) == before
    assert await _rows(url_of(module, filled), list(before)) == up
    assert all(rows for table, rows in up.items() if table in {"sessions", "messages", "users", "refresh_tokens"})
    engine = create_engine(url, "tests")
    async with engine.connect() as connection:
        assert await connection.run_sync(find_drift, STORAGES[module].schema) == []
    await engine.dispose()


@pytest.mark.parametrize("module", MODULES)
async def test_every_released_revision(filled: DatabaseUrls, module: str) -> None:
    """Down to each revision, up to the newest: the tables that are at both ends keep their rows."""
    schema = STORAGES[module].schema
    url = parse_url(url_of(module, filled), schema.variable)
    steps = revisions(schema)
    for step in steps:
        await move_schema(url, schema, step.id, 5, down=True)
        old = await digests(module, url_of(module, filled))
        counted = await _rows(url_of(module, filled), list(old))
        await move_schema(url, schema, "head", 5)
        assert await _rows(url_of(module, filled), list(old)) == counted
        await move_schema(url, schema, step.id, 5, down=True)
        assert await digests(module, url_of(module, filled)) == old
        await move_schema(url, schema, "head", 5)
    assert await read_revision(url, schema) == steps[-1].id
    await move_schema(url, schema, "base", 5, down=True)
    assert await read_revision(url, schema) is None


async def _rows(url: str, tables: list[str]) -> dict[str, int]:
    engine = create_engine(parse_url(url, "TEST"), "tests")
    count = "SELECT count(*) FROM {}"
    async with engine.connect() as connection:
        found = {table: (await connection.execute(text(count.format(table)))).scalar_one() for table in tables}
    await engine.dispose()
    return found


KILLED = """
import asyncio, dataclasses, pathlib, sys
from codelab.db import parse_url
from codelab.storage.schema import move_schema
from tests.storage.rows import STORAGES
schema = dataclasses.replace(STORAGES["agent"].schema, migrations=pathlib.Path(sys.argv[1]))
asyncio.run(move_schema(parse_url(sys.argv[2], schema.variable), schema, "head", 5))
"""


@pytest.mark.timeout(1800)  # with --soak; otherwise a few seconds
async def test_a_migration_that_is_killed(filled: DatabaseUrls, tmp_path: Path, *, soak: bool) -> None:
    """Kill -9 at any instant: the database is at the revision before, or at the one after, with every row."""
    schema = later("agent", tmp_path, slow='import time; print("here", flush=True); time.sleep(0.3)')
    url = parse_url(filled.agent, schema.variable)
    before = await digests("agent", filled.agent)
    first = revisions(STORAGES["agent"].schema)[-1].id
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(20 if soak else 2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(schema.migrations), filled.agent, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()  # the tables are changed, nothing is committed
        await asyncio.sleep(chance.uniform(0, 0.5))  # the instant of the kill is what is tried
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        assert await read_revision(url, schema) in {first, "later"}, seed
        await move_schema(url, schema, "head", 5)
        await move_schema(url, schema, first, 5, down=True)
        assert await digests("agent", filled.agent) == before, seed


async def test_a_served_schema_is_left_alone(migrated: DatabaseUrls, tmp_path: Path, operator: Operator) -> None:
    """Neither up nor down while a server runs; status says that one does, and stays a look."""
    async with serving(make_settings(migrated, tmp_path)):
        line = await asyncio.to_thread(operator.line, "downgrade", "base", "--yes", code=2)
        told = await asyncio.to_thread(operator.told, "status")

    assert "a codelab server uses this database; stop it before a change of its schema" in line
    assert [one["served"] for one in told["modules"]] == [True, True]
    assert [one["served"] for one in operator.told("status")["modules"]] == [False, False]


def test_the_commands(databases: DatabaseUrls, operator: Operator) -> None:
    """They show and move the revision; ``--sql`` changes nothing; a downgrade asks, or wants ``--yes``."""
    operator.databases = databases
    printed = operator.db("upgrade", "--sql", "--module", "agent")
    assert "CREATE TABLE sessions" in printed.stdout
    assert operator.told("current")["modules"][1]["revision"] is None
    assert operator.db("upgrade").returncode == 0
    head = operator.told("current")["modules"]
    assert [one["revision"] for one in head] == [one["head"] for one in head]
    assert operator.told("history")["revisions"][-1]["revision"] == head[1]["head"]
    assert "say --yes" in operator.db("downgrade", "base").stderr
    assert "DROP TABLE" in operator.db("downgrade", "base", "--sql", "--module", "agent").stdout
    unknown = operator.line("upgrade", "nothing", "--module", "auth", code=2)
    assert "nothing" in unknown
    assert "codelab db history" in unknown
    assert operator.db("downgrade", "base", "--yes").returncode == 0
    assert operator.told("current")["modules"][0]["revision"] is None


def test_status_makes_nothing(operator: Operator, migrated: DatabaseUrls, tmp_path: Path) -> None:
    """A database that is not there is told with exit code 1, the other is shown, and no file appears."""
    files = {path.name for path in tmp_path.iterdir()}
    operator.databases = replace(migrated, agent=f"sqlite:///{tmp_path}/nothing.db")
    told = operator.told("status", code=1)

    assert told["modules"][1]["unreachable"].startswith("there is no file")
    assert told["modules"][0]["ready"]
    assert told["modules"][0]["tables"]["users"] == 1
    assert {path.name for path in tmp_path.iterdir()} == files


async def test_vacuum_gives_space_back(filled: DatabaseUrls, operator: Operator) -> None:
    """The rows are the same afterwards, and a SQLite file is smaller."""
    await execute(filled.agent, "CREATE TABLE ballast (content TEXT)")
    if filled.agent.startswith("sqlite"):
        await execute(filled.agent, "INSERT INTO ballast VALUES (hex(randomblob(500000)))")
    await execute(filled.agent, "DROP TABLE ballast")
    before = await both(filled)
    told = {one["module"]: one for one in operator.told("vacuum")["modules"]}

    assert await both(filled) == before
    if filled.agent.startswith("sqlite"):
        assert told["agent"]["after"] < told["agent"]["before"] - 900_000


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_vacuum_does_not_stop_a_server(migrated: DatabaseUrls, tmp_path: Path, operator: Operator) -> None:
    """SQLite's VACUUM keeps writers out, so it is refused beside a server, unless the operator wants it."""
    async with serving(make_settings(migrated, tmp_path)):
        line = await asyncio.to_thread(operator.line, "vacuum", code=2)
        forced = await asyncio.to_thread(operator.db, "vacuum", "--force")

    assert "stop the server, or let its writers wait with --force" in line
    assert forced.returncode == 0, forced.stderr


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_the_reference_is_refused(tmp_path: Path, operator: Operator, migrated: DatabaseUrls) -> None:
    """``upgrade`` does not touch a database that the reference system made."""
    with contextlib.closing(sqlite3.connect(tmp_path / "reference.db")) as connection:
        connection.execute("CREATE TABLE sessions (id TEXT)")
    operator.databases = replace(migrated, agent=f"sqlite:///{tmp_path}/reference.db")
    line = operator.line("upgrade", "--module", "agent", code=2)

    assert "import-reference" in line
    with pytest.raises(StartError):
        await digests("agent", operator.databases.agent)
