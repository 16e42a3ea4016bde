"""Rows of a SQLite file that have no portable form: found, and named by their keys, before anything is written.

SQLite takes any value in any column, text with U+0000 and text that is no UTF-8 among them; PostgreSQL refuses them.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.storage.values import Column, Kind, Table, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codelab.storage.snapshot import Snapshot

__all__ = ("Unportable", "screen")

_NUL = "holds U+0000"
#: So many are named, of each table.
NAMED = 1000
_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_TIME = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
_MICROSECONDS = "[0-9]" * 6


class Unportable(msgspec.Struct, frozen=True):
    """A value that cannot be moved: where it is, and why. ``replaceable`` text is made portable with U+FFFD."""

    table: str
    key: dict[str, Any]
    column: str
    reason: str
    replaceable: bool

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value!r}" for name, value in self.key.items())
        return f"{self.table} {key}: {self.column} {self.reason}"


async def screen(snapshot: Snapshot, *, limits: bool) -> list[Unportable]:
    """Find what has no portable form, in the rows that the snapshot takes; nothing on PostgreSQL, which has none.

    With ``limits`` text that is longer than its column is found too, which SQLite does not mind and PostgreSQL does.
    """
    if snapshot.rows.dialect != "sqlite":
        return []
    found: list[Unportable] = []
    for table in snapshot.tables:
        where = snapshot.condition(table)
        found += await snapshot.rows.call(partial(_screen, limits=limits), table, where)
    return found


def _screen(connection: Any, table: Table, where: str, *, limits: bool) -> list[Unportable]:
    raw: sqlite3.Connection = connection.connection.driver_connection
    scope = f"({where})" if where else "1"
    found = []
    rules = [(column, *rule) for column in table.columns for rule in _rules(column, limits=limits)]
    # Whole tables are read once; again only to name what they hold.
    utf8, suspect = _look(raw, table, scope, [condition for _, condition, reason, _ in rules if reason != _NUL])
    raw.text_factory = lambda data: data.decode(errors="replace")
    if suspect:
        for column, condition, reason, replaceable in rules:
            query = f"SELECT {_keys(table)} FROM {quoted(table.name)} WHERE {scope} AND ({condition}) LIMIT {NAMED}"
            found += [
                Unportable(table.name, _key(table, row), column.name, reason, replaceable) for row in raw.execute(query)
            ]
    if not utf8:
        found += _without_utf8(raw, table, scope)
    raw.text_factory = str
    return found


def _rules(column: Column, *, limits: bool) -> Iterator[tuple[str, str, bool]]:
    """Give conditions in SQL for rows whose value is not what the column says."""
    name = quoted(column.name)
    match column.kind:
        case Kind.TEXT | Kind.UUID:
            yield f"typeof({name}) NOT IN ('text', 'null')", "is no text", False
            yield f"instr({name}, char(0))", _NUL, True
            if limits and column.length:
                yield f"length({name}) > {column.length}", f"is longer than {column.length} characters", False
        case Kind.INTEGER:
            yield f"typeof({name}) NOT IN ('integer', 'null')", "is no integer", False
        case Kind.BOOLEAN:
            yield f"typeof({name}) NOT IN ('integer', 'null') OR {name} NOT IN (0, 1)", "is neither 0 nor 1", False
        case Kind.FLOAT:
            yield f"typeof({name}) NOT IN ('real', 'null') OR abs({name}) = 9e999", "is no finite number", False
        case Kind.TIMESTAMP:
            forms = (f"{_DAY} {_TIME}.{_MICROSECONDS}", f"{_DAY} {_TIME}")
            yield " AND ".join(f"{name} NOT GLOB '{form}'" for form in forms), "is no timestamp", False
        case Kind.BINARY:
            yield f"typeof({name}) NOT IN ('blob', 'null')", "is not binary", False


def _look(raw: sqlite3.Connection, table: Table, scope: str, rules: list[str]) -> tuple[bool, bool]:
    """Tell whether all text is UTF-8, and whether some may hold U+0000 or a rule finds something."""
    texts = [quoted(column.name) for column in table.columns if column.kind in {Kind.TEXT, Kind.UUID}]
    # All in one value, which the driver decodes at once; a space keeps the parts of two broken characters apart.
    joined = " || ' ' || ".join(f"coalesce({text}, '')" for text in texts) or "''"
    raw.text_factory = str
    suspect = False
    try:
        rows = raw.execute(f"SELECT {joined}, {' OR '.join(rules)} FROM {quoted(table.name)} WHERE {scope}")
        for value, broken in rows:
            # A BLOB in a column of text makes no text of the whole.
            if broken or not isinstance(value, str) or "\x00" in value:
                suspect = True
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
        return False, True
    return True, suspect


def _without_utf8(raw: sqlite3.Connection, table: Table, scope: str) -> list[Unportable]:
    found = []
    texts = [column.name for column in table.columns if column.kind in {Kind.TEXT, Kind.UUID}]
    raw.text_factory = bytes
    rows = raw.execute(
        f"SELECT {', '.join(map(quoted, texts))}, {_keys(table)} FROM {quoted(table.name)} WHERE {scope}"
    )
    for row in rows:
        for name, value in zip(texts, row, strict=False):
            if isinstance(value, bytes) and not _decodes(value):
                key = [part.decode(errors="replace") if isinstance(part, bytes) else part for part in row[len(texts) :]]
                found.append(Unportable(table.name, _key(table, key), name, "is no valid UTF-8", replaceable=True))
        if len(found) >= NAMED:
            break
    return found


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _keys(table: Table) -> str:
    return ", ".join(map(quoted, table.key)) if table.key else "rowid"


def _key(table: Table, row: Any) -> dict[str, Any]:
    return dict(zip(table.key or ("rowid",), row, strict=True))
