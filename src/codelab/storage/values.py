"""The portable form of a row: a JSON array with the columns in order, equal on both databases.

A row is written by msgspec or by the database itself, without white space and with as few escapes as JSON allows, so
that equal rows are equal bytes. Text is a string, an integer a number, a boolean 0 or 1, a timestamp the string
``YYYY-MM-DDTHH:MM:SS.ffffffZ``, binary data and a UUID hexadecimal digits, a JSON document the string that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import inspect, types

from codelab.errors import CodelabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

__all__ = ("Batch", "Column", "Kind", "Table", "describe", "quoted", "row_decoder")

#: What a batch may weigh, in bytes of JSON, before it is handed on; one row may weigh more.
BATCH_BYTES = 1 << 20


class Kind(StrEnum):
    """What a column holds, in terms that both databases share."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    BINARY = "binary"
    UUID = "uuid"


@dataclass(frozen=True)
class Column:
    """One column. ``length`` is the longest text that it takes, None when there is no limit."""

    name: str
    kind: Kind
    nullable: bool
    length: int | None = None


@dataclass(frozen=True)
class Table:
    """A table as one database has it; ``key`` is its primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def arranged(self, names: Sequence[str]) -> Table:
        """Return the table with its columns in the order of ``names``.

        Raises:
            CodelabError: the columns are others.
        """
        mine = {column.name: column for column in self.columns}
        if set(names) != set(mine) or len(names) != len(mine):
            other = ", ".join(sorted(set(names) ^ set(mine)))
            raise CodelabError(f"{self.name}: source and target do not have the same columns ({other})")
        return Table(self.name, tuple(mine[name] for name in names), self.key)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows: as lines of JSON, and as values where the reader had them anyway."""

    lines: list[bytes]
    rows: list[tuple[Any, ...]] | None = None

    def values(self, table: Table) -> Iterable[Sequence[Any]]:
        """Give the rows as values."""
        return self.rows if self.rows is not None else row_decoder(table).decode_lines(b"\n".join(self.lines))


_PYTHON = {Kind.INTEGER: int, Kind.BOOLEAN: int, Kind.FLOAT: float}
_DECODERS: dict[Table, msgspec.json.Decoder[Any]] = {}


def row_decoder(table: Table) -> msgspec.json.Decoder[Any]:
    """Make what reads a line of the table, and refuses another number of values or other types."""
    if table not in _DECODERS:
        members: list[Any] = []
        for column in table.columns:
            member = _PYTHON.get(column.kind, str)
            members.append(member | None if column.nullable else member)
        shape: Any = tuple.__class_getitem__(tuple(members))
        _DECODERS[table] = msgspec.json.Decoder(shape)
    return _DECODERS[table]


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def describe(connection: Connection, names: Iterable[str]) -> list[Table]:
    """Read the columns of some tables from the database itself, so that every revision of a schema can be moved.

    Raises:
        CodelabError: a column has a type without a portable form.
    """
    inspector = inspect(connection)
    tables = []
    for name in names:
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        columns = tuple(
            Column(
                column["name"],
                _kind(f"{name}.{column['name']}", column["type"], connection.dialect.name),
                # SQLite reports the columns of a primary key as they were declared, PostgreSQL as NOT NULL.
                column["nullable"] and column["name"] not in key,
                getattr(column["type"], "length", None),
            )
            for column in inspector.get_columns(name)
        )
        tables.append(Table(name, columns, tuple(key)))
    return tables


def _kind(where: str, type_: types.TypeEngine[Any], dialect: str) -> Kind:
    match type_:
        case types.Uuid():
            return Kind.UUID
        case types.Boolean():
            return Kind.BOOLEAN
        case types.Integer():
            return Kind.INTEGER
        case types.Float():
            return Kind.FLOAT
        case types.DateTime() if dialect == "sqlite" or type_.timezone:
            return Kind.TIMESTAMP
        case types._Binary():  # noqa: SLF001 - what SQLAlchemy names as the base of BLOB and BYTEA
            return Kind.BINARY
        case types.String():
            return Kind.TEXT
        case types.JSON() if type(type_).__name__ != "JSONB":
            return Kind.TEXT
        case _:
            raise CodelabError(f"{where}: a column of type {type_!r} cannot be moved between databases")
