"""Moving whole databases: ``codelab db copy``, ``export`` and ``import`` beside what the databases do bare.

A floor writes the same rows into the same empty tables, made by the migrations, and does nothing else: no screening, no
digest, no reading back, no JSON between the two. It is what a person would type: COPY FROM a file that COPY wrote, or
``executemany`` of ``SELECT *``, in one transaction, committed to the disk. Primary keys and indexes are there while it
writes, as for everybody; foreign keys are not: SQLite does not look at them unless told, and a restore by PostgreSQL's
own tools makes them at the end. A floor runs beside each leg, since the machine may be busier the next minute. The legs
are whole processes, with the second that Python needs to start; it weighs less the more rows there are.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from codelab.agent.storage import SCHEMA
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import PostgresServer

__all__ = ("Line", "measure")

PER_SESSION, PER_TURN = 100, 4
_AT = "2026-01-02 03:04:05.678901"
_TABLES = ("sessions", "turns", "messages")


@dataclass(frozen=True)
class Line:
    """One measurement: ``floor`` is how fast the database does it bare, in rows a second; None has none."""

    what: str
    rows: int
    seconds: float
    floor: float | None = None
    cpu: float | None = None
    peak_mb: float | None = None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    def __str__(self) -> str:
        ratio = f"{self.rate / self.floor:5.2f}" if self.floor else "     "
        cpu = f"{self.cpu:7.1f} s CPU" if self.cpu is not None else ""
        peak = f"{self.peak_mb:6.0f} MB" if self.peak_mb is not None else ""
        return f"{self.what:44} {self.rows:11,} rows {self.rate:10,.0f}/s {ratio} {cpu:13} {peak}"


def measure(folder: Path, server: PostgresServer, messages: int) -> Iterator[Line]:
    """Fill a SQLite file, take it to PostgreSQL and back, to an archive, and from there into both."""
    source, back, fresh = (f"sqlite:///{folder}/{name}.db" for name in ("source", "back", "imported"))
    archive = str(folder / "archive.tar.zst")
    began = time.perf_counter()
    rows = asyncio.run(_fill(source, messages))
    size = (folder / "source.db").stat().st_size / 1e6
    yield Line(f"made, {size:,.0f} MB", rows, time.perf_counter() - began)

    copied = server.create()
    leg = _run("copy, SQLite to PostgreSQL", rows, "copy", "--from", source, "--to", copied)
    yield from _beside(leg, asyncio.run(_bare_copy(copied, server.create(), folder / "bare.copy", rows)))
    leg = _run("copy, PostgreSQL to SQLite", rows, "copy", "--from", copied, "--to", back)
    yield from _beside(leg, asyncio.run(_bare_sqlite(source, folder / "bare.db", rows)))
    environ = {"AGENT_RUNTIME__DB_URL": back}
    yield _run("export from SQLite", rows, "export", archive, "--module", "agent", **environ)
    environ = {"AGENT_RUNTIME__DB_URL": copied}
    yield _run("export from PostgreSQL", rows, "export", f"{archive}.2", "--module", "agent", **environ)
    environ = {"AGENT_RUNTIME__DB_URL": fresh}
    leg = _run("import into SQLite", rows, "import", archive, "--module", "agent", **environ)
    yield from _beside(leg, asyncio.run(_bare_sqlite(source, folder / "bare2.db", rows)))
    environ = {"AGENT_RUNTIME__DB_URL": server.create()}
    leg = _run("import into PostgreSQL", rows, "import", archive, "--module", "agent", **environ)
    yield from _beside(leg, asyncio.run(_bare_copy(copied, server.create(), folder / "bare.copy", rows)))


def _beside(line: Line, floor: Line) -> Iterator[Line]:
    yield floor
    yield Line(line.what, line.rows, line.seconds, floor.rate, line.cpu, line.peak_mb)


async def _make_tables(url: str) -> None:
    database = Database(parse_url(url, "bare"), SCHEMA)
    await database.start(5)
    await database.stop()


async def _fill(url: str, messages: int) -> int:
    """Make the tables and fill them; returns the number of rows."""
    await _make_tables(url)
    sessions, turns = messages // PER_SESSION, messages // PER_TURN
    chance = random.Random(1)  # noqa: S311 - the same rows in every run
    words = [f"{'йлüñ' if n % 9 == 0 else ''}{chance.getrandbits(24):x}" for n in range(5000)]
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO sessions (db_id, id, owner_id, title, created_at, updated_at, last_activity, is_active,"
            " metadata_json, message_count, last_seq) VALUES (?, ?, ?, 'A session', ?, ?, ?, 1, '{}', ?, ?)",
            ((n, f"session-{n}", f"owner-{n % 100}", _AT, _AT, _AT, PER_SESSION, n) for n in range(1, sessions + 1)),
        )
        connection.executemany(
            "INSERT INTO turns (db_id, id, session_db_id, message_id, state, steps, input_tokens, output_tokens,"
            " created_at) VALUES (?, ?, ?, ?, 'completed', 1, 100, 200, ?)",
            ((n, f"turn-{n}", n % sessions + 1, f"message-{n * PER_TURN}", _AT) for n in range(turns)),
        )
        connection.executemany(
            "INSERT INTO messages (id, session_db_id, turn_db_id, seq, role, status, content, timestamp, agent, model)"
            " VALUES (?, ?, ?, ?, ?, 'completed', ?, ?, 'coder', 'model')",
            (
                (
                    f"message-{n}",
                    n // PER_TURN % sessions + 1,
                    n // PER_TURN,
                    n % PER_TURN + 1,
                    "assistant" if n % 2 else "user",
                    " ".join(chance.choices(words, k=60)) + '\n```py\nprint("\\n")\n```\n',
                    _AT,
                )
                for n in range(turns * PER_TURN)
            ),
        )
    return sessions + turns + turns * PER_TURN


async def _bare_sqlite(source: str, target: Path, rows: int) -> Line:
    """Write the rows of one file to another."""
    await _make_tables(f"sqlite:///{target}")
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as read, closing(sqlite3.connect(target)) as write:
        write.execute("PRAGMA synchronous = FULL")
        began = time.perf_counter()
        for table in _TABLES:
            columns = [row[1] for row in read.execute(f"PRAGMA table_info({table})")]
            found = read.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own names
            places = ", ".join("?" * len(columns))
            write.executemany(f"INSERT INTO {table} VALUES ({places})", found)  # noqa: S608 - as above
        write.commit()
        return Line("bare: executemany from SQLite to SQLite", rows, time.perf_counter() - began)


async def _bare_copy(source: str, target: str, file: Path, rows: int) -> Line:
    """Write the rows of one database to files, and with the clock running from there into another."""
    await _make_tables(target)
    names = {table: str(file.with_suffix(f".{table}")) for table in _TABLES}
    for url in (source, target):
        connection = await asyncpg.connect(parse_url(url, "bare").dsn)
        try:
            if url == source:
                for table, name in names.items():
                    await connection.copy_from_table(table, output=name)
                continue
            for table, key in await connection.fetch(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f'"
            ):
                await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
            began = time.perf_counter()
            async with connection.transaction():
                for table, name in names.items():
                    await connection.copy_to_table(table, source=name)
            return Line("bare: COPY of the same rows into PostgreSQL", rows, time.perf_counter() - began)
        finally:
            await connection.close()
    raise AssertionError(target)


def _run(what: str, rows: int, *arguments: str, **environ: str) -> Line:
    """Run ``codelab db`` and measure the process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "codelab", "db", *arguments, "--json"],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    document = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode != 0 or not document["modules"]:
        raise SystemExit(f"codelab db {arguments[0]} failed")
    seconds = time.perf_counter() - began
    # Kilobytes on Linux, bytes on macOS.
    peak = usage.ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    return Line(what, rows, seconds, cpu=usage.ru_utime + usage.ru_stime, peak_mb=peak)
