"""The portable archive: what its members are called, and what the first and the last of them say."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from codelab.storage.digest import Tally
from codelab.storage.values import Column, Kind, Table

__all__ = (
    "FORMAT",
    "HEADER",
    "MANIFEST",
    "PART",
    "README",
    "README_TEXT",
    "SUMS",
    "Header",
    "Manifest",
    "ModuleHeader",
    "part_name",
    "pretty",
)

FORMAT = 1
README, HEADER, MANIFEST, SUMS = "README.txt", "format.json", "manifest.json", "SHA256SUMS"
#: ``MODULE/TABLE.000001.jsonl``: consecutive parts of a table.
PART = re.compile(r"([a-z_]+)/([a-z0-9_]+)\.([0-9]{6,})\.jsonl")

README_TEXT = """\
This is an archive of codelab: the rows of its tables, readable without codelab.

    tar --zstd -xf FILE        unpack it
    sha256sum -c SHA256SUMS    check every member

format.json     which modules and tables there are, and the columns of each
MODULE/TABLE.NNNNNN.jsonl
                the rows of a table, in numbered parts: one JSON array in each line, its values in the order of
                the columns. Timestamps are UTC, booleans 0 and 1, binary data hexadecimal digits. A column that
                holds a JSON document holds it as a string.
manifest.json   as format.json, and for each table the number of its rows and a digest: the SHA-256 of each line
                (without its line end), read as a number with the highest byte first, all added up modulo 2^256, as 64
                hexadecimal digits. It does not depend on the order of the rows.
SHA256SUMS      the SHA-256 of every member before it

`codelab db import FILE` reads it into SQLite or PostgreSQL.
"""


class _ColumnHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    type: Kind
    nullable: bool


class ModuleHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module: the revision of its schema, and the columns of each table in the order of the rows' values."""

    revision: str
    tables: dict[str, list[_ColumnHeader]]

    @classmethod
    def of(cls, revision: str, tables: list[Table]) -> ModuleHeader:
        """Describe tables."""
        return cls(
            revision=revision,
            tables={
                table.name: [_ColumnHeader(name=c.name, type=c.kind, nullable=c.nullable) for c in table.columns]
                for table in tables
            },
        )

    def described(self) -> list[Table]:
        """Return the tables, in the order of the archive."""
        return [
            Table(name, tuple(Column(column.name, column.type, column.nullable) for column in columns), ())
            for name, columns in self.tables.items()
        ]


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of ``format.json``. ``selection`` says which rows were taken; None is all."""

    format: int
    codelab: str
    created_at: datetime
    selection: dict[str, str] | None
    modules: dict[str, ModuleHeader]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of ``manifest.json``: the header again, and the tally of each table of each module."""

    header: Header
    tallies: dict[str, dict[str, Tally]]


def part_name(module: str, table: str, number: int) -> str:
    """Name a part of a table; the first is 1."""
    return f"{module}/{table}.{number:06}.jsonl"


def pretty(value: Any) -> bytes:
    """Write JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
