"""aiosqlite with fewer waits for its thread than SQLAlchemy's adapter.

That opens a cursor, executes, fetches and closes, and waits for the thread of the connection four times. Here a
statement waits once, and not at all where the connection is used inline.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
    SQLiteDialect_aiosqlite,
)
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("DRIVER", "Dialect", "run_inline", "set_inline")

T = TypeVar("T")

#: The name of the dialect in a URL of SQLAlchemy.
DRIVER = "sqlite+codelab"


class _Outcome(NamedTuple):
    """What a statement left: the members of a cursor that SQLAlchemy reads."""

    description: Any
    rowcount: int
    lastrowid: int | None
    rows: list[Any]


def _execute(connection: sqlite3.Connection, statement: str, parameters: Any) -> _Outcome:
    """Run a statement to its end; called in the thread of the connection."""
    cursor = connection.execute(statement, parameters or ())
    try:
        rows = cursor.fetchall() if cursor.description else []
        return _Outcome(cursor.description, cursor.rowcount, cursor.lastrowid, rows)
    finally:
        cursor.close()


def _execute_many(connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> _Outcome:
    cursor = connection.executemany(statement, parameters)
    try:
        return _Outcome(cursor.description, cursor.rowcount, cursor.lastrowid, [])
    finally:
        cursor.close()


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor that exists in the thread only while its statement runs."""

    __slots__ = ("_outcome",)

    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection  # noqa: SLF001 - the adapter's own contract between its classes
        self._outcome = _Outcome(None, -1, None, [])
        self._rows: deque[Any] = deque()

    @property
    def description(self) -> Any:
        return self._outcome.description

    @property
    def rowcount(self) -> int:
        return self._outcome.rowcount

    @property
    def lastrowid(self) -> Any:
        return self._outcome.lastrowid

    @property  # type: ignore[misc]  # settable there, which nobody does
    def arraysize(self) -> int:
        return 1

    def close(self) -> None:
        """Forget the rows; there is no cursor in the thread."""
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        return

    def execute(self, operation: Any, parameters: Any = None) -> None:
        """Run a statement."""
        self._run(_execute, operation, parameters)

    def executemany(self, operation: Any, seq_of_parameters: Any) -> None:
        """Run a statement once for each set of parameters."""
        self._run(_execute_many, operation, seq_of_parameters)

    def _run(self, function: Any, operation: Any, parameters: Any) -> None:
        adapter: Any = self._adapt_connection
        connection: Any = self._connection
        try:
            if adapter.inline:
                self._outcome = function(connection._conn, operation, parameters)  # noqa: SLF001 - what aiosqlite wraps
            else:
                self._outcome = await_only(self._hop(function, operation, parameters))
        except Exception as error:  # noqa: BLE001 - the adapter's way to report errors
            adapter._handle_exception(error)  # noqa: SLF001 - as above
        self._rows = deque(self._outcome.rows)

    async def _hop(self, function: Any, operation: Any, parameters: Any) -> Any:
        connection: Any = self._connection
        async with self._adapt_connection._execute_mutex:  # noqa: SLF001 - as above
            return await connection._execute(function, connection._conn, operation, parameters)  # noqa: SLF001 - as above


class _Connection(AsyncAdapt_aiosqlite_connection):
    """A connection; while it is ``inline``, statements run where they are called and not in its thread."""

    __slots__ = ("inline",)

    _cursor_cls = _Cursor

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.inline = False

    def rollback(self) -> None:
        """End the transaction and forget what it wrote."""
        if self.inline:
            self._connection._conn.rollback()  # noqa: SLF001 - what aiosqlite wraps
        else:
            super().rollback()


class _Dbapi(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *arg: Any, **kw: Any) -> AsyncAdapt_aiosqlite_connection:
        made = super().connect(*arg, **kw)  # SQLAlchemy says check_same_thread=False itself
        return _Connection(self, made._connection)  # noqa: SLF001 - the connection of aiosqlite that it wraps


class _Compiler(SQLiteCompiler):
    """Write the hints of statements (``INDEXED BY``), which SQLAlchemy knows for other databases only."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return what is written after a table's name."""
        return text


class Dialect(SQLiteDialect_aiosqlite):
    """SQLite through aiosqlite."""

    supports_statement_cache = True
    statement_compiler = _Compiler

    @classmethod
    def import_dbapi(cls) -> AsyncAdapt_aiosqlite_dbapi:
        """Return the driver."""
        return _Dbapi(__import__("aiosqlite"), sqlite3)


async def run_inline(connection: AsyncConnection, function: Callable[[Connection], T]) -> T:
    """Run a function of a few small statements right here, on the event loop.

    Meant for a transaction that has the write lock already, so that no statement waits for anybody: going to the thread
    and back, and handing the interpreter's lock over each time, would cost several times what the statements do.
    """
    driver = (await connection.get_raw_connection()).dbapi_connection
    synchronous: Any = connection.sync_connection
    set_inline(driver, on=True)
    try:
        return function(synchronous)
    finally:
        set_inline(driver, on=False)


def set_inline(driver: Any, *, on: bool) -> None:
    """Let a connection of this driver run its statements where they are called, or in its thread again."""
    driver.inline = on


registry.register("sqlite.codelab", __name__, "Dialect")
