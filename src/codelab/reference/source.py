"""Open a database of the reference system without changing a byte of it.

A SQLite file is copied with SQLite's own backup into a temporary folder and read there; PostgreSQL is read in one
transaction that may not write and sees one snapshot. The reference may run meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import asyncpg

from codelab.db import parse_url
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.db import DatabaseUrl

__all__ = ("Source", "open_source")

#: Table to the columns that are read; without them it is no database of the reference.
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "agent": {
        "sessions": ("id", "title", "description", "created_at", "last_activity", "is_active", "deleted_at"),
        "messages": ("id", "session_db_id", "role", "content", "timestamp", "tool_call_id", "tool_calls"),
        "agent_contexts": ("id", "session_db_id", "current_agent", "created_at", "updated_at", "switch_count"),
        "agent_switches": ("id", "context_db_id", "from_agent", "to_agent", "switched_at", "reason"),
        "pending_approvals": ("id", "request_id", "request_type", "call_id", "session_id", "arguments", "status"),
    },
    "auth": {
        "users": ("id", "username", "email", "password_hash", "is_active", "is_verified", "last_login_at"),
        "oauth_clients": ("id", "client_id", "is_confidential", "allowed_scopes", "allowed_grant_types", "is_active"),
        "refresh_tokens": ("id", "jti_hash", "user_id", "client_id", "scope", "expires_at", "parent_jti_hash"),
        "audit_logs": ("id", "user_id", "client_id", "event_type", "event_data", "success", "created_at"),
    },
}
#: How often a file that changes while it is copied is tried again.
_TRIES = 3
_BUSY_SECONDS = 30
_WAL = 2
_PAGE = 500
Row = dict[str, Any]


class Source(Protocol):
    """One database of the reference; ``masked`` is its URL without a password."""

    masked: str
    #: The SQL for the place of a row in its table, the order in which rows of one time were written.
    place: str

    async def rows(self, query: str, *arguments: str) -> list[Row]:
        """Return the rows of a query; its parameters are $1, $2, …."""
        ...

    def stream(self, query: str) -> AsyncIterator[Row]:
        """Yield the rows of a query that may have many."""
        ...


class _SqliteSource:
    """Read the private copy of a SQLite file."""

    place = "rowid"

    def __init__(self, connection: sqlite3.Connection, masked: str) -> None:
        self._connection = connection
        self.masked = masked

    async def rows(self, query: str, *arguments: str) -> list[Row]:
        return [dict(row) for row in self._connection.execute(query.replace("$", "?"), arguments)]

    async def stream(self, query: str) -> AsyncIterator[Row]:
        for row in self._connection.execute(query):
            yield dict(row)


class _PostgresSource:
    """Read inside one snapshot of PostgreSQL."""

    place = "ctid"

    def __init__(self, connection: asyncpg.Connection[Any], masked: str) -> None:
        self._connection = connection
        self.masked = masked

    async def rows(self, query: str, *arguments: str) -> list[Row]:
        return [dict(row) for row in await self._connection.fetch(query, *arguments)]

    async def stream(self, query: str) -> AsyncIterator[Row]:
        async for row in self._connection.cursor(query, prefetch=_PAGE):
            yield dict(row)


@contextlib.asynccontextmanager
async def open_source(module: str, url: str) -> AsyncIterator[Source]:
    """Open the database that the reference keeps for its ``agent`` or ``auth`` part.

    Raises:
        StartError: the URL is not understood, nothing can be read there, or it is no database of the reference; one
            line, without a password.
    """
    option = f"--{module}-db"
    parsed = parse_url(url, option)
    if parsed.path is not None:
        with tempfile.TemporaryDirectory(prefix="codelab-reference-") as folder:
            copy = await asyncio.to_thread(_copy, parsed.path, Path(folder), f"{option} ({parsed.masked})")
            with contextlib.closing(_connect(copy)) as connection:
                source = _SqliteSource(connection, parsed.masked)
                try:
                    present = {name: await _sqlite_columns(source, name) for name in await _sqlite_tables(source)}
                    _refuse_others(present, module, f"{option} ({parsed.masked})")
                    yield source
                except sqlite3.Error as error:
                    reason = str(error).splitlines()[0]
                    raise StartError(f"{option} ({parsed.masked}): cannot be read: {reason}.") from None
        return
    async with _postgres(parsed, option) as postgres:
        columns = await postgres.rows(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = ANY(current_schemas(false))"
        )
        found: dict[str, set[str]] = {}
        for row in columns:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        _refuse_others(found, module, f"{option} ({parsed.masked})")
        yield postgres


@contextlib.asynccontextmanager
async def _postgres(url: DatabaseUrl, option: str) -> AsyncIterator[_PostgresSource]:
    settings = {"timezone": "UTC", "default_transaction_read_only": "on", "application_name": "codelab.reference"}
    try:
        connection = await asyncpg.connect(url.dsn, timeout=url.connect_timeout, server_settings=settings)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if isinstance(error, asyncpg.PostgresError) else None
        reason = reason or getattr(error, "strerror", None) or type(error).__name__
        raise StartError(f"{option} ({url.masked}): cannot be opened: {reason}.") from None
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield _PostgresSource(connection, url.masked)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(
            f"{option} ({url.masked}): cannot be read: {str(error).splitlines()[0].rstrip('.')}."
        ) from None
    finally:
        await connection.close()


async def _sqlite_tables(source: _SqliteSource) -> list[str]:
    return [row["name"] for row in await source.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]


async def _sqlite_columns(source: _SqliteSource, table: str) -> set[str]:
    return {row["name"] for row in await source.rows("SELECT name FROM pragma_table_info($1)", table)}


def _refuse_others(present: dict[str, set[str]], module: str, where: str) -> None:
    if f"{module}_alembic_version" in present:
        raise StartError(f"{where}: this is a database of codelab, not of the reference system.")
    missing = [
        table if table not in present else f"{table}.{column}"
        for table, columns in TABLES[module].items()
        for column in (columns if table in present else columns[:1])
        if column not in present.get(table, ())
    ]
    if missing:
        raise StartError(
            f"{where}: this is no {module} database of the reference system; it lacks {', '.join(missing[:5])}."
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    # SQLite keeps whatever bytes it was given as text.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def _copy(path: Path, folder: Path, where: str) -> Path:
    """Copy a database that somebody may be writing into a private folder, as it is at one moment."""
    try:
        for _ in range(_TRIES):
            before = _state(path)
            if not before[0]:
                raise StartError(f"{where}: there is no such file, or it is empty.")
            alive = _beside(path, "-shm").exists()
            if not alive and before[1]:
                copy = _copy_left(path, folder, "-wal")
            elif alive or not _is_wal(path):
                # A reader that locks like any other; the copy is right whoever writes meanwhile.
                return _back_up_or_recover(path, folder)
            else:
                # A reader of a file in WAL mode makes files beside it, so one that nobody has open is read as it is.
                copy = _back_up(path, folder / "copy.db", "immutable=1")
            if _state(path) == before:
                return copy
    except sqlite3.Error as error:
        raise StartError(f"{where}: cannot be read: {str(error).splitlines()[0]}.") from None
    except OSError as error:
        raise StartError(f"{where}: cannot be read: {error.strerror}.") from None
    raise StartError(f"{where}: it changes while it is read; stop the reference system and try again.")


def _back_up_or_recover(path: Path, folder: Path) -> Path:
    try:
        return _back_up(path, folder / "copy.db", "mode=ro")
    except sqlite3.OperationalError:
        if not _state(path)[2]:
            raise
        return _copy_left(path, folder, "-journal")


def _copy_left(path: Path, folder: Path, suffix: str) -> Path:
    """Copy what a stopped process left, with its log: that is played back in the copy."""
    left = folder / "left.db"
    shutil.copyfile(path, left)
    shutil.copyfile(_beside(path, suffix), _beside(left, suffix))
    return _back_up(left, folder / "copy.db", "mode=rw")


def _back_up(path: Path, copy: Path, mode: str) -> Path:
    uri = f"file:{quote(str(path))}?{mode}"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as origin,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        origin.execute("SELECT count(*) FROM sqlite_master").fetchone()
        origin.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # the copy has one reader and needs no log
    return copy


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _state(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return what changes when somebody writes the file, its WAL or its journal; None for what is absent or empty."""

    def look(file: Path) -> tuple[int, int] | None:
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        return (status.st_size, status.st_mtime_ns) if status.st_size else None

    return look(path), look(_beside(path, "-wal")), look(_beside(path, "-journal"))


def _is_wal(path: Path) -> bool:
    """Tell the journal mode from the header (SQLite file format, section 1.3.3)."""
    with path.open("rb") as file:
        header = file.read(20)
    return len(header) == 20 and header[18] == _WAL
