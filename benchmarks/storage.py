"""Moving whole databases: ``codelab db copy``, ``export`` and ``import`` beside what the databases do bare.

The floors write the same rows and do nothing else: no index, no reference, no digest, no verification.
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
    sqlite = Line("bare: executemany from SQLite to SQLite", rows, _bare_sqlite(source, folder / "bare.db"))
    yield sqlite

    copied = server.create()
    first = _run("copy, SQLite to PostgreSQL", rows, "copy", "--from", source, "--to", copied)
    out, into = asyncio.run(_bare_copy(copied, folder / "bare.copy"))
    yield Line("bare: COPY out of PostgreSQL", rows, out)
    postgresql = Line("bare: COPY of the same bytes into PostgreSQL", rows, into)
    yield postgresql
    yield _beside(first, postgresql)
    yield _beside(_run("copy, PostgreSQL to SQLite", rows, "copy", "--from", copied, "--to", back), sqlite)
    environ = {"AGENT_RUNTIME__DB_URL": back}
    yield _run("export from SQLite", rows, "export", archive, "--module", "agent", **environ)
    environ = {"AGENT_RUNTIME__DB_URL": copied}
    yield _run("export from PostgreSQL", rows, "export", f"{archive}.2", "--module", "agent", **environ)
    environ = {"AGENT_RUNTIME__DB_URL": fresh}
    yield _beside(_run("import into SQLite", rows, "import", archive, "--module", "agent", **environ), sqlite)
    environ = {"AGENT_RUNTIME__DB_URL": server.create()}
    yield _beside(_run("import into PostgreSQL", rows, "import", archive, "--module", "agent", **environ), postgresql)


def _beside(line: Line, floor: Line) -> Line:
    return Line(line.what, line.rows, line.seconds, floor.rate, line.cpu, line.peak_mb)


async def _fill(url: str, messages: int) -> int:
    """Make the tables and fill them; returns the number of rows."""
    database = Database(parse_url(url, "source"), SCHEMA)
    await database.start(5)
    await database.stop()
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


def _bare_sqlite(source: str, target: Path) -> float:
    """Write the rows of one file to tables without indexes in another; return the seconds."""
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as read, closing(sqlite3.connect(target)) as write:
        write.execute("PRAGMA journal_mode = WAL")
        began = time.perf_counter()
        for table in _TABLES:
            columns = [row[1] for row in read.execute(f"PRAGMA table_info({table})")]
            write.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            rows = read.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own names
            places = ", ".join("?" * len(columns))
            write.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - as above
        write.commit()
        return time.perf_counter() - began


async def _bare_copy(url: str, file: Path) -> tuple[float, float]:
    """Write the rows to files and back into tables without indexes; return the seconds of both."""
    connection = await asyncpg.connect(parse_url(url, "bare").dsn)
    try:
        began = time.perf_counter()
        for table in _TABLES:
            await connection.copy_from_table(table, output=str(file.with_suffix(f".{table}")))
        out = time.perf_counter() - began
        began = time.perf_counter()
        async with connection.transaction():
            for table in _TABLES:
                bare = f"bare_{table}"
                await connection.execute(f"CREATE TABLE {bare} AS SELECT * FROM {table} LIMIT 0")  # noqa: S608 - as above
                await connection.copy_to_table(bare, source=str(file.with_suffix(f".{table}")))
        into = time.perf_counter() - began
        await connection.execute("DROP TABLE " + ", ".join(f"bare_{table}" for table in _TABLES))
    finally:
        await connection.close()
    return out, into


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
