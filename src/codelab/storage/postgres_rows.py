"""Rows of a PostgreSQL database by COPY, which streams both ways: neither side holds more than a few rows.

The server writes CSV in a form that is almost the JSON of a row (``codelab.storage.csv_lines``).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import msgspec
from sqlalchemy import text

from codelab.db.engine import create_engine
from codelab.db.faults import FAILURES
from codelab.errors import CodelabError
from codelab.storage.csv_lines import ROW_END, csv_of_lines, lines_of_csv
from codelab.storage.values import BATCH_BYTES, Batch, Column, Kind, Table, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from codelab.db.urls import DatabaseUrl

__all__ = ("PostgresRows",)

T = TypeVar("T")


class PostgresRows:
    """Use one connection to a PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, connection: AsyncConnection, raw: Any) -> None:
        self._connection = connection
        self._raw = raw
        self._indexes: list[str] = []
        self._references: list[str] = []
        #: There is no text in PostgreSQL that would have to be replaced.
        self.scrubbed: set[str] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: DatabaseUrl, *, writing: bool) -> AsyncIterator[PostgresRows]:
        """Connect; a connection that is not for writing sees one snapshot and cannot change anything."""
        engine = create_engine(url, "codelab.db", migrating=True)
        try:
            async with engine.connect() as opened:
                snapshot = {} if writing else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                connection = await opened.execution_options(**snapshot)
                raw = (await connection.get_raw_connection()).driver_connection
                yield cls(connection, raw)
        finally:
            await engine.dispose()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Hold one transaction: a snapshot for a reader, all or nothing for a writer."""
        transaction = await self._connection.begin()
        try:
            # The driver's transaction begins with its first statement, and the snapshot with it.
            await self._connection.execute(text("SELECT 1"))
            yield
        except BaseException:
            try:
                await transaction.rollback()
            except FAILURES:
                # A COPY was cut, or the server is away: it takes everything back when the connection is gone.
                await self._connection.invalidate()
            raise
        await transaction.commit()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(connection, *arguments)`` with the SQLAlchemy connection, in the open transaction."""
        return await self._connection.run_sync(function, *arguments)

    async def read(self, table: Table, where: str = "") -> AsyncGenerator[Batch]:
        """Give the rows of a table, or those that a condition in SQL names, in batches."""
        floats = [place for place, column in enumerate(table.columns) if column.kind is Kind.FLOAT]
        # One chunk waits while another is worked on; then the driver stops reading, and the server writing.
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        left = False

        async def copy() -> None:
            texts = [f"c{place}" for place, column in enumerate(table.columns) if column.kind not in _NUMBERS]
            try:
                await self._raw.copy_from_query(
                    _read_sql(table, where), output=chunks.put, force_quote=[*texts, "row_end"], **_CSV
                )
            finally:
                if not left:
                    await chunks.put(None)

        task = asyncio.create_task(copy())
        waiting: list[bytes] = []
        size = 0
        try:
            while (chunk := await chunks.get()) is not None:
                waiting.append(chunk)
                size += len(chunk)
                if size >= BATCH_BYTES:
                    rows, end, rest = b"".join(waiting).rpartition(ROW_END)
                    waiting, size = [rest], len(rest)
                    if end:
                        yield _batch(rows, floats)
            await task
            if rows := b"".join(waiting):
                yield _batch(rows, floats)
        finally:
            if not task.done():
                left = True
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, *FAILURES):
                    await task

    async def write(self, table: Table, batches: AsyncIterator[Batch]) -> None:
        """Insert rows.

        Raises:
            CodelabError: the database refuses one; the line names the table, never the row.
        """
        binary = [place for place, column in enumerate(table.columns) if column.kind is Kind.BINARY]

        async def source() -> AsyncIterator[bytes]:
            async for batch in batches:
                yield csv_of_lines([_with_binary(line, binary) for line in batch.lines] if binary else batch.lines)

        try:
            await self._raw.copy_to_table(
                table.name, columns=[column.name for column in table.columns], source=source(), **_CSV
            )
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise CodelabError(f"{table.name}: a row is refused: {error.args[0].splitlines()[0]}") from None

    async def prepare(self, tables: list[Table]) -> None:
        """Take indexes and references away while rows are written: to make them afterwards is faster, in any order."""
        names = [table.name for table in tables]
        references = await self._raw.fetch(_REFERENCES, names)
        indexes = await self._raw.fetch(_INDEXES, names)
        for table, name, definition in references:
            await self._raw.execute(f"ALTER TABLE {table} DROP CONSTRAINT {quoted(name)}")
            self._references.append(f"ALTER TABLE {table} ADD CONSTRAINT {quoted(name)} {definition}")
        for name, definition in indexes:
            await self._raw.execute(f"DROP INDEX {name}")
            self._indexes.append(definition)

    async def complete(self, tables: list[Table]) -> None:
        """Make indexes and references again, and set the counters of generated keys behind the highest key.

        Raises:
            CodelabError: a row refers to one that is not there.
        """
        try:
            for statement in (*self._indexes, *self._references):
                await self._raw.execute(statement)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise CodelabError(f"{error.args[0].splitlines()[0]}") from None
        for table in tables:
            for column in table.columns:
                sequence = await self._raw.fetchval(
                    "SELECT pg_get_serial_sequence($1, $2)", quoted(table.name), column.name
                )
                if sequence is not None:
                    highest = f"SELECT max({quoted(column.name)}) AS key FROM {quoted(table.name)}"
                    await self._raw.execute(
                        f"SELECT setval('{sequence}', greatest(key, 1), key IS NOT NULL) FROM ({highest}) AS highest"
                    )

    async def settle(self, tables: list[Table]) -> None:
        """Gather statistics, without which the first queries would be slow."""
        async with self.transaction():
            for table in tables:
                await self._raw.execute(f"ANALYZE {quoted(table.name)}")


_REFERENCES = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND conrelid = ANY (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)
"""
_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = ANY (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)
AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


_CSV = {"format": "csv", "quote": '"', "escape": "\\", "null": "null"}
_NUMBERS = {Kind.INTEGER, Kind.BOOLEAN}


def _read_sql(table: Table, where: str) -> str:
    values = ", ".join(f"{_portable(column)} AS c{place}" for place, column in enumerate(table.columns))
    return f"SELECT {values}, '' AS row_end FROM {quoted(table.name)}" + (f" WHERE {where}" if where else "")


def _portable(column: Column) -> str:
    name = quoted(column.name)
    match column.kind:
        case Kind.BOOLEAN:
            return f"{name}::int"
        case Kind.TIMESTAMP:
            # "infinity" has no such form. It stays what it is, and no other database can be filled with it.
            return f"""coalesce(to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), {name}::text)"""
        case Kind.BINARY:
            return f"encode({name}, 'hex')"
        case Kind.UUID:
            return f"replace({name}::text, '-', '')"
        case _:
            # A float goes as text, and gets the digits that all sides write here.
            return name


def _batch(rows: bytes, floats: list[int]) -> Batch:
    lines = lines_of_csv(rows)
    return Batch([_with_floats(line, floats) for line in lines] if floats else lines)


def _with_floats(line: bytes, floats: list[int]) -> bytes:
    row = msgspec.json.decode(line)
    for place in floats:
        if row[place] is not None:
            row[place] = float(row[place])
            if not math.isfinite(row[place]):
                raise CodelabError("a number that is infinite, or none, cannot be moved")
    return msgspec.json.encode(row)


def _with_binary(line: bytes, binary: list[int]) -> bytes:
    """Mark hexadecimal digits as PostgreSQL wants it."""
    row = msgspec.json.decode(line)
    for place in binary:
        if row[place] is not None:
            row[place] = "\\x" + row[place]
    return msgspec.json.encode(row)
