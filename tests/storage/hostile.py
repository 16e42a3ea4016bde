"""Rows that try everything that a column takes, for every table of a module, driven by its metadata."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, Integer, String, Text, TypeDecorator

from codelab.db import JsonText, parse_url
from codelab.db.engine import create_engine

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, MetaData, Table

    from codelab.db import ModuleSchema

__all__ = ("TEXTS", "contents", "fill")

#: What text may be; each stands in every column of text.
TEXTS = (
    "",
    " ",
    "\\N",
    "\\.",
    "\n\\.\n",
    "NULL",
    "null",
    "'\"`; DROP TABLE users; --",
    "a\\b\\\\c\\n\\t\\u0000\\x00",
    "tab\there\nline\r\nreturn\rend",
    "".join(map(chr, range(1, 32))),
    "\x7f\x80\x85\xa0\xad\u200b\u2028\u2029\ufeff",
    "\ufffd\ufffe\uffff\U0001f600\U0010ffff",
    "e\u0301 \u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f469\u200d\U0001f4bb",
    '{"a": 1,\n "a": 2.0e5}',
    "1e400",
    "%s %(name)s :name ? $1",
    "\u0130\u0131\u1e9e\u03a3\u03c3\u03c2",
    "long " * 10_000 + "\\\n",
)
#: The columns hold so many rows, so that every text meets every column.
ROWS = len(TEXTS)
_TIMES = (
    datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 2, 28, 12, 30, 0, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
_CHOICES = re.compile(r"(\w+) IN \((.*)\)")


def fill(schema: ModuleSchema, url: str) -> None:
    """Add rows to every table of a SQLite database that has the module's tables."""
    engine = sqlalchemy.create_engine("sqlite:///" + url.removeprefix("sqlite:///"))
    made: dict[str, list[dict[str, Any]]] = {}
    with engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            made[table.name] = [_row(table, number, made) for number in range(ROWS)]
            connection.execute(table.insert(), made[table.name])
    engine.dispose()


def _row(table: Table, number: int, made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    choices = {}
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and (found := _CHOICES.match(str(constraint.sqltext))):
            choices[found[1]] = re.findall(r"'(\w+)'", found[2])
    unique = {column.name for index in table.indexes if index.unique for column in index.columns}
    row: dict[str, Any] = {}
    for place, column in enumerate(table.columns):
        if column.foreign_keys:
            (key,) = column.foreign_keys
            row[column.name] = made[key.column.table.name][number][key.column.name]
        elif column.name in choices:
            row[column.name] = choices[column.name][number % len(choices[column.name])]
        elif column.nullable and number == 0:
            row[column.name] = None
        else:
            distinct = column.primary_key or bool(column.unique) or column.name in unique
            row[column.name] = _value(column, number, number + place, distinct=distinct)
    return row


def _value(column: Column[Any], number: int, turn: int, *, distinct: bool) -> Any:
    text = TEXTS[turn % ROWS]
    match column.type:
        case JsonText():
            return {"text": text, text[:50]: [turn, -0.0, 1e-300, 2**63 - 1, None, True, {}], "": "\\u0000"}
        case String() | Text():
            text = f"{number:02}{text}" if distinct else text
            return text[: column.type.length] if column.type.length else text
        case Boolean():
            return bool(turn % 2)
        case BigInteger() | Integer() if column.primary_key or distinct:
            return number * 1009 + 1_000_003
        case BigInteger():
            return (2**63 - 1, -(2**63), 0, -1)[turn % 4]
        case Integer():
            return (2**31 - 1, -(2**31), 0, -1)[turn % 4]
        case DateTime() | TypeDecorator():
            return _TIMES[turn % 4] if turn % 5 else _TIMES[2] + timedelta(microseconds=turn)
        case _:
            raise AssertionError(f"no hostile values for {column!r}")


def contents(url: str, metadata: MetaData) -> dict[str, list[str]]:
    """Read every table of a database through its models, not through what is tested."""

    def read(connection: Connection) -> dict[str, list[str]]:
        return {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
        }

    async def run() -> dict[str, list[str]]:
        engine = create_engine(parse_url(url, "TEST_DB_URL"), "codelab.test")
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(read)
        finally:
            await engine.dispose()

    return asyncio.run(run())
