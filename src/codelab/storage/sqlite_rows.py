"""Rows of a SQLite file, read and written on the raw driver in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from codelab.db.engine import MIGRATION_BUSY_TIMEOUT_MS
from codelab.db.faults import FAILURES
from codelab.errors import CodelabError
from codelab.storage.values import BATCH_BYTES, Batch, Column, Kind, Table, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

__all__ = ("SqliteRows", "read_sql")

T = TypeVar("T")


class SqliteRows:
    """Use one connection to a SQLite file; open it with ``snapshot`` or ``target``."""

    dialect = "sqlite"

    def __init__(self, connection: Connection, raw: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._raw = raw
        self._thread = thread
        self._indexes: list[str] = []
        #: Tables in which text that the other database cannot hold is replaced while it is read.
        self.scrubbed: set[str] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, *, writing: bool) -> AsyncIterator[SqliteRows]:
        """Open a file that is there; one that is not for writing cannot be changed."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="codelab-sqlite")
        loop = asyncio.get_running_loop()
        try:
            raw = await loop.run_in_executor(thread, partial(_connect, path, writing=writing))
            try:
                connection = await loop.run_in_executor(thread, partial(_wrap, raw, writing=writing))
                rows = cls(connection, raw, thread)
                try:
                    yield rows
                finally:
                    await rows._run(connection.close)
            finally:
                await loop.run_in_executor(thread, raw.close)
        finally:
            thread.shutdown()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Hold one transaction: a snapshot for a reader, all or nothing for a writer."""
        transaction = await self._run(self._connection.begin)
        try:
            yield
        except BaseException:
            # Closing the connection takes everything back as well.
            with contextlib.suppress(*FAILURES):
                await self._run(transaction.rollback)
            raise
        await self._run(transaction.commit)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(connection, *arguments)`` with the SQLAlchemy connection, in the open transaction."""
        return await self._run(function, self._connection, *arguments)

    async def read(self, table: Table, where: str = "") -> AsyncGenerator[Batch]:
        """Give the rows of a table, or those that a condition in SQL names, in batches."""
        fetch: Callable[..., Batch | None] = _fetch_lines
        statement = lines_sql(table, where)
        if table.name in self.scrubbed or any(column.kind is Kind.FLOAT for column in table.columns):
            # SQLite writes a number with 15 digits, which is less than it has.
            statement = read_sql(table, where)
            fetch = partial(_fetch, factory=_replace if table.name in self.scrubbed else str)
        cursor = await self._run(self._raw.execute, statement)
        try:
            while batch := await self._run(fetch, self._raw, cursor):
                yield batch
        finally:
            await self._run(cursor.close)

    async def write(self, table: Table, batches: AsyncIterator[Batch]) -> None:
        """Insert rows.

        Raises:
            CodelabError: the database refuses one; the line names the table.
        """
        names = ", ".join(quoted(column.name) for column in table.columns)
        places = ", ".join(_place(column, number) for number, column in enumerate(table.columns, 1))
        statement = f"INSERT INTO {quoted(table.name)} ({names}) VALUES ({places})"
        try:
            async for batch in batches:
                await self._run(_insert, self._raw, statement, batch.values(table))
        except (sqlite3.IntegrityError, OverflowError) as error:
            raise CodelabError(f"{table.name}: a row is refused: {error}") from None

    async def prepare(self, tables: list[Table]) -> None:
        """Take the indexes away while rows are written: to make them afterwards is faster."""
        self._indexes = await self._run(_drop_indexes, self._raw, [table.name for table in tables])

    async def complete(self, tables: list[Table]) -> None:
        """Make the indexes again, and prove that no reference leads nowhere.

        Raises:
            CodelabError: a row refers to one that is not there.
        """
        for statement in self._indexes:
            await self._run(_execute, self._raw, statement)
        for table in tables:
            broken = await self._run(_broken_references, self._raw, table.name)
            if broken:
                raise CodelabError(f"{table.name}: {broken} rows refer to rows that are not there")

    async def settle(self, tables: list[Table]) -> None:  # noqa: ARG002 - as for PostgreSQL, which needs them
        """Gather statistics, and move the new rows from the log into the file."""
        await self._run(_execute, self._raw, "PRAGMA optimize")
        await self._run(_execute, self._raw, "PRAGMA wal_checkpoint(TRUNCATE)")

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread must be idle before the transaction is ended.
            with contextlib.suppress(sqlite3.ProgrammingError):  # it may have been closed just now
                self._raw.interrupt()
            with contextlib.suppress(Exception):
                await work
            raise


def _connect(path: Path, *, writing: bool) -> sqlite3.Connection:
    # No path of a URI may be trusted with '?' and '#'.
    uri = f"{path.as_uri()}?mode={'rw' if writing else 'ro'}"
    raw = sqlite3.connect(uri, uri=True, timeout=MIGRATION_BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    raw.create_function("codelab_unhex", 1, lambda value: None if value is None else bytes.fromhex(value))
    try:
        raw.execute("PRAGMA foreign_keys = OFF")  # rows may come before what they refer to; ``complete`` checks
        raw.execute("PRAGMA cache_size = -16384")
        if writing:
            raw.execute("PRAGMA synchronous = FULL")
    except BaseException:
        raw.close()
        raise
    return raw


def _wrap(raw: sqlite3.Connection, *, writing: bool) -> Connection:
    """Give SQLAlchemy the same connection, for Alembic and for looking at the tables."""
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: raw, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine.connect()


def read_sql(table: Table, where: str = "") -> str:
    """Write the query for the rows of a table in their portable form."""
    values = ", ".join(_portable(column) for column in table.columns)
    return f"SELECT {values} FROM {quoted(table.name)}" + (f" WHERE {where}" if where else "")


def lines_sql(table: Table, where: str = "") -> str:
    """Write the query for the lines of JSON, which SQLite writes as msgspec does, and beside the threads of Python."""
    values = ", ".join(_portable(column) for column in table.columns)
    return f"SELECT json_array({values}) FROM {quoted(table.name)}" + (f" WHERE {where}" if where else "")


def _portable(column: Column) -> str:
    name = quoted(column.name)
    match column.kind:
        case Kind.TIMESTAMP:
            # SQLAlchemy writes six digits of a second; other programs may leave them away.
            return f"substr({name}, 1, 10) || 'T' || substr({name} || '.000000', 12, 15) || 'Z'"
        case Kind.BINARY:
            return f"CASE WHEN {name} IS NOT NULL THEN lower(hex({name})) END"
        case _:
            return name


def _place(column: Column, number: int) -> str:
    match column.kind:
        case Kind.TIMESTAMP:
            return f"substr(?{number}, 1, 10) || ' ' || substr(?{number}, 12, 15)"
        case Kind.BINARY:
            return f"codelab_unhex(?{number})"
        case _:
            return f"?{number}"


# A cursor ends in its thread: elsewhere it would reset a statement that the next one, from the cache, already runs.


def _execute(raw: sqlite3.Connection, statement: str) -> None:
    raw.execute(statement).close()


def _insert(raw: sqlite3.Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    raw.executemany(statement, rows).close()


def _replace(text: bytes) -> str:
    return text.decode(errors="replace").replace("\x00", "\ufffd")


def _fetch(
    raw: sqlite3.Connection, cursor: sqlite3.Cursor, factory: Callable[[bytes], str] | type[str]
) -> Batch | None:
    raw.text_factory = factory
    encode = msgspec.json.Encoder().encode
    rows: list[tuple[Any, ...]] = []
    lines: list[bytes] = []
    size = 0
    for row in cursor:
        line = encode(row)
        rows.append(row)
        lines.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            break
    return Batch(lines, rows) if rows else None


def _fetch_lines(raw: sqlite3.Connection, cursor: sqlite3.Cursor) -> Batch | None:
    lines: list[bytes] = []
    size = 0
    raw.text_factory = bytes
    try:
        for (line,) in cursor:
            lines.append(line)
            size += len(line)
            if size >= BATCH_BYTES:
                break
    finally:
        raw.text_factory = str
    return Batch(lines) if lines else None


def _drop_indexes(raw: sqlite3.Connection, tables: list[str]) -> list[str]:
    found = raw.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    mine = [(name, sql) for name, table, sql in found.fetchall() if table in tables]
    for name, _ in mine:
        raw.execute(f"DROP INDEX {quoted(name)}")
    return [sql for _, sql in mine]


def _broken_references(raw: sqlite3.Connection, table: str) -> int:
    return len(raw.execute(f"PRAGMA foreign_key_check({quoted(table)})").fetchmany(1000))
