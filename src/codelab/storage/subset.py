"""Which rows belong to one person or one session: found by the foreign keys that lead to theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import inspect

from codelab.storage.values import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

__all__ = ("equals", "owned", "with_parents")


class _Reference(NamedTuple):
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


def equals(column: str, value: str) -> str:
    """Write a condition in SQL."""
    literal = value.replace("'", "''")
    return f"{quoted(column)} = '{literal}'"


def owned(connection: Connection, tables: Sequence[str], roots: Mapping[str, str]) -> dict[str, str]:
    """Follow the foreign keys down from the rows of ``roots`` (table to condition).

    ``tables`` are named parents first. Returns a condition for each table that has such rows. A reference of a table to
    itself is not followed.
    """
    conditions: dict[str, str] = {}
    for table in tables:
        ways = [roots[table]] if table in roots else []
        ways += [
            f"{_columns(reference.columns)} IN "
            f"(SELECT {_list(reference.parent_columns)} FROM {quoted(reference.parent)} "
            f"WHERE {conditions[reference.parent]})"
            for reference in _references(connection, table)
            if reference.parent in conditions and reference.parent != table
        ]
        if ways:
            conditions[table] = " OR ".join(f"({way})" for way in ways)
    return conditions


def with_parents(connection: Connection, tables: Sequence[str], conditions: Mapping[str, str]) -> dict[str, str]:
    """Add the rows that the rows of ``conditions`` refer to, so that the whole can stand alone."""
    complete = dict(conditions)
    for table in reversed(tables):
        if table not in complete:
            continue
        for reference in _references(connection, table):
            if reference.parent in conditions or reference.parent == table:
                continue
            way = (
                f"({_columns(reference.parent_columns)} IN "
                f"(SELECT {_list(reference.columns)} FROM {quoted(table)} WHERE {complete[table]}))"
            )
            before = complete.get(reference.parent)
            complete[reference.parent] = f"{before} OR {way}" if before else way
    return complete


def _references(connection: Connection, table: str) -> list[_Reference]:
    return [
        _Reference(tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"]))
        for key in inspect(connection).get_foreign_keys(table)
    ]


def _list(columns: Sequence[str]) -> str:
    return ", ".join(map(quoted, columns))


def _columns(columns: Sequence[str]) -> str:
    return f"({_list(columns)})" if len(columns) > 1 else quoted(columns[0])
