"""Which tables a module has at a revision of its schema, learned by running the migrations on an empty database."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect
from sqlalchemy.pool import StaticPool

from codelab.db.migrate import alembic_config, current_revision, refuse_foreign
from codelab.errors import StartError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from codelab.db.schema import ModuleSchema

__all__ = ("known_revision", "migrate_to", "revision_of", "tables_at")


@cache
def tables_at(schema: ModuleSchema, revision: str) -> tuple[str, ...]:
    """Name the module's tables at a revision, parents before their children."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool)
    try:
        with engine.begin() as connection:
            migrate_to(connection, schema, revision)
            found = [name for name, _ in inspect(connection).get_sorted_table_and_fkc_names() if name]
    finally:
        engine.dispose()
    return tuple(name for name in found if name != schema.version_table)


def migrate_to(connection: Connection, schema: ModuleSchema, revision: str) -> None:
    """Bring the schema forward to a revision, in the transaction that is open."""
    command.upgrade(alembic_config(schema, connection), revision)


def known_revision(schema: ModuleSchema, revision: str) -> bool:
    """Tell whether this program knows a revision."""
    try:
        ScriptDirectory(str(schema.migrations)).get_revision(revision)
    except CommandError:
        return False
    return True


def revision_of(connection: Connection, schema: ModuleSchema, masked: str) -> str | None:
    """Return the revision of the module's tables, None where there are none.

    Raises:
        StartError: the tables are another program's, or a newer codelab's.
    """
    refuse_foreign(set(inspect(connection).get_table_names()), schema, masked)
    revision = current_revision(connection, schema)
    if revision is not None and not known_revision(schema, revision):
        raise StartError(
            f"{masked}: its schema revision {revision} is unknown to this program, so a newer one made it. "
            "Install that version."
        )
    return revision
