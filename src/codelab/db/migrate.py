"""Bring one module's schema to its head, under a lock, in one transaction.

Many starters at once are safe: PostgreSQL waits at an advisory lock, SQLite at ``BEGIN IMMEDIATE``. On SQLite foreign
keys are off meanwhile and checked before the commit, since re-creating a table would otherwise delete its child rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from codelab.db.engine import writing
from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ("alembic_config", "check_drift", "configure_environment", "upgrade")


def alembic_config(scripts: Path, metadata: MetaData, version_table: str, connection: Connection) -> Config:
    """Make an Alembic configuration that works on an open connection and needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes.update(connection=connection, metadata=metadata, version_table=version_table)
    return config


def configure_environment(context: Any) -> None:
    """Serve as the whole ``env.py`` of a module: run the migrations in the transaction that is open."""
    attributes = context.config.attributes
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


async def upgrade(engine: AsyncEngine, scripts: Path, metadata: MetaData, version_table: str, *, masked: str) -> None:
    """Run the pending migrations of one module.

    Raises:
        StartError: the database was made by the reference system, or is newer than this program.
    """
    async with writing(engine).connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            await _pragma(connection, "busy_timeout = 60000")
            await _pragma(connection, "foreign_keys = OFF")
        try:
            async with connection.begin():
                if not sqlite:
                    await connection.execute(text("SET LOCAL lock_timeout = 0"))
                    await connection.execute(text("SET LOCAL statement_timeout = 0"))
                    await connection.execute(
                        text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"codelab.{version_table}"}
                    )
                await connection.run_sync(_upgrade, scripts, metadata, version_table, masked)
                if sqlite:
                    broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).fetchall()
                    if broken:
                        raise StartError(
                            f"{masked}: a migration would break {len(broken)} references; nothing was changed."
                        )
        finally:
            if sqlite:
                await connection.invalidate()  # the pragmas must not return to the pool


async def _pragma(connection: AsyncConnection, pragma: str) -> None:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.execute(f"PRAGMA {pragma}")


def _upgrade(connection: Connection, scripts: Path, metadata: MetaData, version_table: str, masked: str) -> None:
    present = set(inspect(connection).get_table_names())
    if version_table not in present and (foreign := sorted(present & set(metadata.tables))):
        raise StartError(
            f"{masked}: this database has the tables {', '.join(foreign)} and was not made by codelab (the reference "
            "system makes such tables). It was not touched; name an empty database instead."
        )
    config = alembic_config(scripts, metadata, version_table, connection)
    current = MigrationContext.configure(connection, opts={"version_table": version_table}).get_current_revision()
    try:
        if current is not None:
            ScriptDirectory.from_config(config).get_revision(current)
    except CommandError:
        raise StartError(
            f"{masked}: its schema revision {current} is unknown to this program, so a newer one made it. "
            "Install that version."
        ) from None
    command.upgrade(config, "head")


def check_drift(connection: Connection, scripts: Path, metadata: MetaData, version_table: str) -> None:
    """Raise ``alembic.util.AutogenerateDiffsDetected`` when the migrations do not lead to the models."""
    command.check(alembic_config(scripts, metadata, version_table, connection))
