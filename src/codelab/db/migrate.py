"""Bring one module's schema to its head, under a lock, in one transaction.

Many starters at once are safe: PostgreSQL waits at an advisory lock, SQLite at ``BEGIN IMMEDIATE``. On SQLite foreign
keys are off meanwhile and checked before the commit, since re-creating a table would otherwise delete its child rows.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, NamedTuple

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect, text

from codelab.db.engine import writing
from codelab.db.unfinished import refuse_unfinished
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from codelab.db.schema import ModuleSchema

__all__ = (
    "Revision",
    "alembic_config",
    "check_drift",
    "configure_environment",
    "current_revision",
    "downgrade",
    "find_drift",
    "print_migrations",
    "refuse_foreign",
    "refuse_newer",
    "revisions",
    "upgrade",
)


def alembic_config(schema: ModuleSchema, connection: Connection) -> Config:
    """Make an Alembic configuration that works on an open connection and needs no ini file."""
    config = _config(schema)
    config.attributes["connection"] = connection
    return config


def _config(schema: ModuleSchema) -> Config:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(schema.migrations).replace("%", "%%"))
    config.attributes.update(metadata=schema.metadata, version_table=schema.version_table)
    return config


def configure_environment(context: Any) -> None:
    """Serve as the whole ``env.py`` of a module: run the migrations in the transaction that is open, or print them."""
    attributes = context.config.attributes
    if context.is_offline_mode():
        dialect = attributes["dialect"]
        context.configure(
            dialect_name=dialect,
            target_metadata=attributes["metadata"],
            version_table=attributes["version_table"],
            render_as_batch=dialect == "sqlite",
            literal_binds=True,
            output_buffer=attributes["output"],
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    context.configure(
        connection=attributes["connection"],
        target_metadata=attributes["metadata"],
        version_table=attributes["version_table"],
        include_name=lambda name, kind, _parents: kind != "table" or name in attributes["metadata"].tables,
        render_as_batch=attributes["connection"].dialect.name == "sqlite",
        compare_type=True,
        transactional_ddl=False,  # the caller holds the transaction
    )
    context.run_migrations()


async def upgrade(engine: AsyncEngine, schema: ModuleSchema, *, masked: str, revision: str = "head") -> None:
    """Run the pending migrations of one module, as far as ``revision``, on an engine made for ``migrating``.

    Raises:
        StartError: the database was made by the reference system, is newer than this program, or was left half-filled;
            or there is no such revision.
    """

    def run(config: Config, current: str | None) -> None:
        # What every start but the first finds: nothing to do, and no need to let Alembic find that out.
        if revision != "head" or current is None or current != _scripts(schema.migrations).get_current_head():
            command.upgrade(config, revision)

    await _migrate(engine, schema, masked, run)


async def downgrade(engine: AsyncEngine, schema: ModuleSchema, *, masked: str, revision: str) -> None:
    """Take the schema of one module back to an older revision, on an engine made for ``migrating``.

    Raises:
        StartError: as ``upgrade``.
    """
    await _migrate(engine, schema, masked, lambda config, _current: command.downgrade(config, revision))


async def _migrate(
    engine: AsyncEngine, schema: ModuleSchema, masked: str, run: Callable[[Config, str | None], None]
) -> None:
    async with writing(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            lock = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
            await connection.execute(lock, {"name": f"codelab.{schema.version_table}"})
        await connection.run_sync(_run, schema, masked, run)
        if connection.dialect.name == "sqlite":
            broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).fetchall()
            if broken:
                raise StartError(f"{masked}: a migration would break {len(broken)} references; nothing was changed.")


def _run(connection: Connection, schema: ModuleSchema, masked: str, run: Callable[[Config, str | None], None]) -> None:
    refuse_unfinished(connection, schema, masked)
    refuse_foreign(set(inspect(connection).get_table_names()), schema, masked)
    current = current_revision(connection, schema)
    refuse_newer(current, schema, masked)
    try:
        run(alembic_config(schema, connection), current)
    except CommandError as error:
        raise StartError(f"{masked}: {_sentence(error)} `codelab db history` lists the revisions.") from None


def refuse_newer(current: str | None, schema: ModuleSchema, masked: str) -> None:
    """Raise ``StartError`` when a revision is not one of this program's."""
    if current is not None and current not in {revision.id for revision in revisions(schema)}:
        raise StartError(
            f"{masked}: its schema revision {current} is unknown to this program, so a newer one made it. "
            "Install that version."
        )


class Revision(NamedTuple):
    """One step of a module's schema."""

    id: str
    down: str | None
    meaning: str


def revisions(schema: ModuleSchema) -> list[Revision]:
    """List the revisions of a module, the oldest first."""
    scripts = _scripts(schema.migrations).walk_revisions()
    steps = [Revision(str(s.revision), str(s.down_revision) if s.down_revision else None, s.doc) for s in scripts]
    return steps[::-1]


@functools.cache
def _scripts(folder: Path) -> ScriptDirectory:
    """Read a folder of migrations once: they are part of the program."""
    return ScriptDirectory(str(folder))


def print_migrations(schema: ModuleSchema, dialect: str, current: str | None, revision: str, *, down: bool) -> str:
    """Return the SQL that would lead from ``current`` to a revision; nothing is run.

    Raises:
        StartError: there is no such revision, or a step cannot be told without looking at the tables.
    """
    config = _config(schema)
    output = io.StringIO()
    config.attributes.update(dialect=dialect, output=output)
    span = f"{current or 'base'}:{revision}"
    try:
        (command.downgrade if down else command.upgrade)(config, span, sql=True)
    except CommandError as error:
        raise StartError(f"module {schema.module}: {_sentence(error)}") from None
    return output.getvalue()


def _sentence(error: CommandError) -> str:
    return str(error).splitlines()[0].rstrip(".") + "."


def current_revision(connection: Connection, schema: ModuleSchema) -> str | None:
    """Return the revision that the module's tables are at; None where there are none."""
    return MigrationContext.configure(connection, opts={"version_table": schema.version_table}).get_current_revision()


def refuse_foreign(present: set[str], schema: ModuleSchema, masked: str) -> None:
    """Raise ``StartError`` when a database has tables with our names that we did not make."""
    if schema.version_table not in present and (foreign := sorted(present & set(schema.metadata.tables))):
        options = (f"--{name}-db {masked if name == schema.module else 'URL'}" for name in ("agent", "auth"))
        raise StartError(
            f"{masked}: this database has the tables {', '.join(foreign)} and was not made by codelab (the reference "
            f"system makes such tables). It was not touched. Name an empty database in {schema.variable}; to take this "
            f"one over, run: codelab db import-reference {' '.join(options)}"
        )


def check_drift(connection: Connection, schema: ModuleSchema) -> None:
    """Raise ``alembic.util.AutogenerateDiffsDetected`` when the migrations do not lead to the models."""
    command.check(alembic_config(schema, connection))


def find_drift(connection: Connection, schema: ModuleSchema) -> list[str]:
    """Say what differs between the tables as they are and as the models have them; nothing is changed."""
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": schema.version_table,
            "include_name": lambda name, kind, _parents: kind != "table" or name in schema.metadata.tables,
            "compare_type": True,
        },
    )
    return [_told(difference) for difference in compare_metadata(context, schema.metadata)]


def _told(difference: Any) -> str:
    if isinstance(difference, list):  # several changes of one column
        return "; ".join(_told(part) for part in difference)
    kind, *parts = difference
    names = [str(getattr(part, "name", part)) for part in parts if isinstance(getattr(part, "name", part), str)]
    return f"{str(kind).replace('_', ' ')}: {' '.join(names)}"
