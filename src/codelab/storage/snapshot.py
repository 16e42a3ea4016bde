"""A module's rows in a database, all from one instant, also while a server writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from codelab.db.faults import FAILURES, reason
from codelab.db.unfinished import refuse_unfinished
from codelab.errors import StartError
from codelab.storage.layout import revision_of, tables_at
from codelab.storage.rows import open_rows
from codelab.storage.values import describe, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from sqlalchemy import Connection

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl
    from codelab.storage.digest import TableDigest
    from codelab.storage.rows import Rows
    from codelab.storage.values import Batch, Table

__all__ = ("Snapshot", "open_snapshot")


class Snapshot:
    """The tables of one module as they were when it was opened.

    ``conditions`` names the rows of each table, in SQL; a table that is not in it has none. None takes all.
    """

    def __init__(
        self, rows: Rows, url: DatabaseUrl, schema: ModuleSchema, revision: str, tables: Sequence[Table]
    ) -> None:
        self.rows = rows
        self.url = url
        self.schema = schema
        self.revision = revision
        self.tables = tables
        self.counts: dict[str, int] = {}
        self.expected: Mapping[str, TableDigest] = {}
        self.conditions: Mapping[str, str] | None = None

    async def count(self) -> None:
        """Count the rows of every table, for progress."""
        self.counts = await self.rows.call(_count, [(table.name, self.condition(table)) for table in self.tables])

    def condition(self, table: Table) -> str:
        """Return which rows of a table are taken, in SQL; all when it is empty."""
        return "" if self.conditions is None else self.conditions.get(table.name, "1 = 0")

    async def read(self, table: Table) -> AsyncGenerator[Batch]:
        """Give the rows of a table.

        Raises:
            StartError: the database fails; the line names it, not the one that is written meanwhile.
        """
        try:
            async with contextlib.aclosing(self.rows.read(table, self.condition(table))) as batches:
                async for batch in batches:
                    yield batch
        except FAILURES as error:
            raise StartError(f"{self.url.variable} ({self.url.masked}): {reason(error)}.") from None


@contextlib.asynccontextmanager
async def open_snapshot(url: DatabaseUrl, schema: ModuleSchema) -> AsyncIterator[Snapshot]:
    """Open a module's tables for reading; nothing is changed.

    Raises:
        StartError: the database cannot be used, has no tables of the module, or was left half filled.
        CodelabError: a column has a type without a portable form.
    """
    async with open_rows(url, writing=False) as rows, rows.transaction():
        revision, tables = await rows.call(_look, url, schema)
        snapshot = Snapshot(rows, url, schema, revision, tables)
        yield snapshot


def _look(connection: Connection, url: DatabaseUrl, schema: ModuleSchema) -> tuple[str, list[Table]]:
    where = f"{url.variable} ({url.masked})"
    refuse_unfinished(connection, schema, where)
    revision = revision_of(connection, schema, where)
    if revision is None:
        raise StartError(f"{where}: it has no tables of module {schema.module}.")
    return revision, describe(connection, tables_at(schema, revision))


def _count(connection: Connection, tables: list[tuple[str, str]]) -> dict[str, int]:
    counts = {}
    for name, condition in tables:
        query = f"SELECT count(*) FROM {quoted(name)}" + (f" WHERE {condition}" if condition else "")
        counts[name] = connection.exec_driver_sql(query).scalar_one()
    return counts
