"""Lines of JSON and the CSV of PostgreSQL are the same values."""

from __future__ import annotations

import csv
import io
import random
import sqlite3

import msgspec
import pytest

from codelab.storage.csv_lines import ROW_END, csv_of_lines, lines_of_csv

#: Text that could be taken for a mark, an escape or the end of a field or row.
PIECES = (
    *(chr(code) for code in range(1, 33)),
    *('"', "\\", ",", "[", "]", "\x7f", "\x85", "\u2028", "é", "😀"),
    *("\\n", "\\u0000", "\\u001f", "\\.", "null", ',""\n', '",""\n', '"]\n["', "]\n[", '\\",""\n'),
)


def lines_of(seed: int) -> list[bytes]:
    """Make rows of such text, of numbers and of nothing, as lines of JSON."""
    chance = random.Random(seed)
    rows = [
        [chance.choice((None, 0, -7, 2**63 - 1, "".join(chance.choices(PIECES, k=chance.randrange(6)))))] * 2
        for _ in range(200)
    ]
    return [msgspec.json.encode(row) for row in rows]


@pytest.mark.parametrize("seed", range(25))
def test_lines_come_back(seed: int) -> None:
    """What is written as CSV and read again is the same bytes, whatever the text holds."""
    lines = lines_of(seed)
    rows = [csv_of_lines([line]) for line in lines]

    assert lines_of_csv(b"".join(row[:-1] + ROW_END for row in rows)) == lines
    assert csv_of_lines(lines) == b"".join(rows)


@pytest.mark.parametrize("seed", range(5))
def test_another_reader_finds_the_values(seed: int) -> None:
    """The CSV holds the text itself: control characters as they are, not as JSON escapes them."""
    lines = lines_of(seed)
    text = io.StringIO(csv_of_lines(lines).decode(), newline="")

    found = list(csv.reader(text, escapechar="\\", doublequote=False, strict=True))

    rows = [msgspec.json.decode(line) for line in lines]
    assert found == [["null" if value is None else str(value) for value in row] for row in rows]


@pytest.mark.parametrize("seed", range(5))
def test_sqlite_writes_the_same_lines(seed: int) -> None:
    """A digest does not depend on whether SQLite or msgspec wrote the JSON of a row."""
    lines = lines_of(seed)
    connection = sqlite3.connect(":memory:")
    rows = [msgspec.json.decode(line) for line in lines]

    found = [connection.execute("SELECT json_array(?, ?)", row).fetchone()[0].encode() for row in rows]
    connection.close()

    assert found == lines
