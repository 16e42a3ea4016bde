"""The mark on a database that somebody fills: while it is there, no server starts on it.

It is committed before the first row is written, and removed in the transaction that commits the last, verified one. So
what a crash leaves is refused with the line that says how to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from codelab.errors import StartError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from codelab.db.schema import ModuleSchema

__all__ = ("mark", "mark_of", "refuse_unfinished", "unmark")


def mark(connection: Connection, schema: ModuleSchema, operation: str, remedy: str) -> None:
    """Say that ``operation`` fills the database; ``remedy`` is what to do when it never ends.

    Neither may hold a password: both are shown.
    """
    table = schema.unfinished_table
    connection.execute(text(f"CREATE TABLE IF NOT EXISTS {table} (operation TEXT NOT NULL, remedy TEXT NOT NULL)"))
    connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own name
    statement = text(f"INSERT INTO {table} (operation, remedy) VALUES (:operation, :remedy)")  # noqa: S608 - as above
    connection.execute(statement, {"operation": operation, "remedy": remedy})


def unmark(connection: Connection, schema: ModuleSchema) -> None:
    """Say that the database is whole."""
    connection.execute(text(f"DROP TABLE IF EXISTS {schema.unfinished_table}"))


def mark_of(connection: Connection, schema: ModuleSchema) -> tuple[str, str] | None:
    """Return the operation that did not come to its end and its remedy; None where all is whole."""
    if not inspect(connection).has_table(schema.unfinished_table):
        return None
    statement = text(f"SELECT operation, remedy FROM {schema.unfinished_table}")  # noqa: S608 - our own name
    found = connection.execute(statement).first()
    return None if found is None else (found.operation, found.remedy)


def refuse_unfinished(connection: Connection, schema: ModuleSchema, masked: str) -> None:
    """Raise ``StartError`` when something that filled the database did not come to its end."""
    found = mark_of(connection, schema)
    if found is not None:
        operation, remedy = found
        raise StartError(f"{masked}: {operation} did not come to its end, so the data is not whole. {remedy}")
