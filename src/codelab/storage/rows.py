"""Tables as streams of rows, the same on both databases."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from codelab.db.faults import FAILURES, reason
from codelab.errors import StartError
from codelab.storage.postgres_rows import PostgresRows
from codelab.storage.sqlite_rows import SqliteRows

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from codelab.db.urls import DatabaseUrl
    from codelab.storage.values import Batch, Table

__all__ = ("Rows", "open_rows")

T = TypeVar("T")


class Rows(Protocol):
    """One connection to a database, and what moving rows needs of it."""

    dialect: str
    #: Tables in which text that cannot be moved is replaced by U+FFFD while it is read.
    scrubbed: set[str]

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Hold one transaction: a snapshot for a reader, all or nothing for a writer."""
        ...

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(connection, *arguments)`` with the SQLAlchemy connection, in the open transaction."""
        ...

    def read(self, table: Table, where: str = "") -> AsyncGenerator[Batch]:
        """Give the rows of a table, or those that a condition in SQL names, in batches."""
        ...

    async def write(self, table: Table, batches: AsyncIterator[Batch]) -> None:
        """Insert rows."""
        ...

    async def prepare(self, tables: list[Table]) -> None:
        """Take away what slows writing."""
        ...

    async def complete(self, tables: list[Table]) -> None:
        """Make it again, check references, set the counters of keys."""
        ...

    async def settle(self, tables: list[Table]) -> None:
        """Do what belongs after the commit."""
        ...


@contextlib.asynccontextmanager
async def open_rows(url: DatabaseUrl, *, writing: bool) -> AsyncIterator[Rows]:
    """Open a database that is there.

    Raises:
        StartError: it cannot be used, or fails meanwhile; one line, without a password.
    """
    where = f"{url.variable} ({url.masked})"
    if url.path is not None and not url.path.is_file():
        raise StartError(f"{where}: there is no such file.")
    opened: AbstractAsyncContextManager[Rows] = (
        SqliteRows.open(url.path, writing=writing) if url.path else PostgresRows.open(url, writing=writing)
    )
    try:
        async with opened as rows:
            yield rows
    except FAILURES as error:
        raise StartError(f"{where}: {reason(error)}.") from None
