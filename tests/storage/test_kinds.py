"""Kinds of columns that no table has yet: each has one portable form, or is refused by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from codelab.db import Database, ModuleSchema, parse_url
from codelab.db.engine import create_engine
from codelab.errors import CodelabError
from codelab.storage.load import Job, load
from codelab.storage.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

_MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "1", None, None, None
def upgrade():
    op.create_table(
        "kinds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.{number}),
        sa.Column("data", sa.LargeBinary),
        sa.Column("mark", sa.Uuid),
        sa.Column("document", sa.JSON),
    )
"""
_ENVIRONMENT = """
from alembic import context
from codelab.db.migrate import configure_environment
configure_environment(context)
"""
#: Binary data, a UUID and a JSON document, as SQL that both databases understand.
_ROW = "INSERT INTO kinds (id, number, data, mark, document) VALUES ({id}, {number}, {data}, {mark}, {document})"


class Silent:
    """Show no progress."""

    def begin(self, what: str, total: int | None) -> None:
        """Show nothing."""

    def advance(self, rows: int) -> None:
        """Show nothing."""


def schema_with(folder: Path, number: str) -> ModuleSchema:
    """Make a module with one table, whose column ``number`` has the named type."""
    migrations = folder / number.partition("(")[0]
    (migrations / "versions").mkdir(parents=True)
    (migrations / "env.py").write_text(_ENVIRONMENT, encoding="utf-8")
    (migrations / "versions" / "one.py").write_text(_MIGRATION.format(number=number), encoding="utf-8")
    metadata = sa.MetaData()
    sa.Table("kinds", metadata, sa.Column("id", sa.Integer, primary_key=True))
    return ModuleSchema(module="kinds", variable="KINDS_DB_URL", metadata=metadata, migrations=migrations)


async def make_rows(url: str, schema: ModuleSchema, rows: list[dict[str, Any]]) -> None:
    """Make the table on a SQLite file, with rows."""
    database = Database(parse_url(url, "TEST_DB_URL"), schema)
    await database.start(5)
    await database.stop()
    engine = create_engine(parse_url(url, "TEST_DB_URL"), "codelab.test")
    async with engine.begin() as connection:
        for row in rows:
            await connection.exec_driver_sql(_ROW.format(**row))
    await engine.dispose()


async def copy(source: str, target: str, schema: ModuleSchema) -> tuple[int, str]:
    """Copy the module, and return the rows and the digest of its table."""
    async with open_snapshot(parse_url(source, "--from"), schema) as snapshot:
        job = Job(schema, snapshot, parse_url(target, "--to"), "a copy", "again")
        await load([job], Silent())
        return job.digests["kinds"].rows, job.digests["kinds"].hex


def test_every_kind_survives(make: Callable[[str], str], tmp_path: Path) -> None:
    """Floats to the last bit, the sign of zero, every byte, UUIDs and JSON text arrive on both databases."""
    schema = schema_with(tmp_path, "Float")
    numbers = ("0.1", "-0.0", "1e308", "5e-324", "1.7976931348623157e308", "3.0", "1e16", "NULL")
    rows = [
        {
            "id": place,
            "number": number,
            "data": "NULL" if place == 0 else f"x'{bytes(range(256)).hex() if place % 2 else ''}'",
            "mark": "NULL" if place == 0 else f"'{place:032x}'",
            "document": """'{"b": [1.0, "\\n"],  "a": null}'""",
        }
        for place, number in enumerate(numbers)
    ]
    source, postgresql, back = make("sqlite"), make("postgresql"), make("sqlite")
    again = make("postgresql")

    async def run() -> set[tuple[int, str]]:
        await make_rows(source, schema, rows)
        steps = ((source, postgresql), (postgresql, back), (back, again))
        return {await copy(*step, schema) for step in steps}

    (found,) = asyncio.run(run())
    assert found[0] == len(rows)


@pytest.mark.parametrize("kind", ["Numeric(10, 2)", "Date", "Time"])
def test_other_kinds_are_refused(make: Callable[[str], str], tmp_path: Path, kind: str) -> None:
    """A type without a portable form is refused before a target is touched, by table and column."""
    schema = schema_with(tmp_path, kind)
    source, target = make("sqlite"), make("sqlite")

    async def run() -> None:
        await make_rows(source, schema, [])
        with pytest.raises(CodelabError, match=r"kinds\.number: a column of type .* cannot be moved"):
            await copy(source, target, schema)

    asyncio.run(run())
    assert not Path(target.removeprefix("sqlite:///")).exists()
