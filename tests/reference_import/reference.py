"""Installations of the reference system: the samples that it made itself, and others with the same tables."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from codelab import reference_import
from codelab.installation import Installation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from codelab.import_records import TokenKey
    from codelab.reference_import import Outcome
    from codelab.settings import Settings

__all__ = ("PASSWORDS", "Quiet", "Reference", "Talk", "change", "dump", "fill_postgres", "import_reference", "insert")

SAMPLES = Path(__file__).with_name("samples")
PASSWORDS = {"admin": "Admin#12345", "alice": "Alice#12345"}
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Quiet:
    """Nobody is told how far the work is."""

    def begin(self, what: str, total: int | None) -> None:
        """Begin a step."""

    def advance(self, rows: int) -> None:
        """Count rows."""


@dataclass(frozen=True)
class Reference:
    """Two SQLite files of the reference."""

    agent: Path
    auth: Path

    @classmethod
    def sample(cls, folder: Path) -> Reference:
        """Copy the samples."""
        folder.mkdir(exist_ok=True)
        copies = [folder / name for name in ("sample_agent_runtime.db", "sample_auth.db")]
        for copy in copies:
            shutil.copy(SAMPLES / copy.name, copy)
        return cls(*copies)

    @classmethod
    def empty(cls, folder: Path) -> Reference:
        """Make the tables of the reference, with one user ``alice`` and her client and no sessions."""
        made = cls.sample(folder)
        with _changing(made.agent) as agent:
            for table in ("agent_switches", "agent_contexts", "pending_approvals", "messages", "sessions"):
                agent.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        with _changing(made.auth) as auth:
            auth.executescript("DELETE FROM refresh_tokens; DELETE FROM audit_logs;")
            auth.execute("DELETE FROM users WHERE username = 'admin'")
        return made

    @property
    def urls(self) -> tuple[str, str]:
        """The URLs of both."""
        return f"sqlite:///{self.agent}", f"sqlite:///{self.auth}"

    def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Read from the file that has the table."""
        for path in (self.agent, self.auth):
            with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                with contextlib.suppress(sqlite3.OperationalError):
                    return [dict(row) for row in connection.execute(query, arguments)]
        raise AssertionError(query)


@contextlib.contextmanager
def _changing(path: Path) -> Any:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def change(path: Path, statement: str, *arguments: Any) -> None:
    """Change a file of the reference."""
    with _changing(path) as connection:
        connection.execute(statement, arguments)


def insert(path: Path, table: str, **values: Any) -> None:
    """Insert a row."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    with _changing(path) as connection:
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - ours


def stamp(at: datetime) -> str:
    """Write a time as the reference does: naive UTC."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


class Talk:
    """Write a session of the reference message by message, one each second."""

    def __init__(self, reference: Reference, session: str = "talk", agent: str = "coder", **values: Any) -> None:
        self.path, self.id, self.at = reference.agent, session, START
        row = {"title": "t", "created_at": stamp(START), "last_activity": stamp(START), "is_active": 1}
        insert(self.path, "sessions", id=session, **(row | values))
        self.context = str(uuid.uuid4())
        insert(
            self.path,
            "agent_contexts",
            id=self.context,
            session_db_id=session,
            current_agent=agent,
            created_at=stamp(START),
            updated_at=stamp(START),
            switch_count=0,
        )

    def _message(self, role: str, content: Any, **values: Any) -> str:
        self.at += timedelta(seconds=1)
        row = {"id": str(uuid.uuid4()), "session_db_id": self.id, "timestamp": stamp(self.at)} | values
        insert(self.path, "messages", role=role, content=content, **row)
        return str(row["id"])

    def user(self, content: Any, **values: Any) -> str:
        """Say something."""
        return self._message("user", content, **values)

    def answer(self, content: Any = None, *calls: dict[str, Any], **values: Any) -> str:
        """Let the model answer."""
        return self._message("assistant", content, **({"tool_calls": json.dumps(calls) if calls else None} | values))

    def call(self, call_id: str, tool: str = "read_file", arguments: Any = '{"path": "a.txt"}') -> str:
        """Let the model call one tool, as the reference stores it."""
        return self.answer(
            None, {"id": call_id, "type": "function", "function": {"name": tool, "arguments": arguments}}
        )

    def result(self, call_id: str | None, content: Any = '{"success": true}', **values: Any) -> str:
        """Answer a call."""
        return self._message("tool", content, tool_call_id=call_id, **values)

    def approval(self, call_id: str, arguments: Any, status: str = "pending", **values: Any) -> str:
        """Ask a person."""
        row = {
            "id": str(uuid.uuid4()),
            "request_id": call_id,
            "request_type": "tool",
            "subject": "write_file",
            "call_id": call_id,
            "session_id": self.id,
            "tool_name": "write_file",
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            "reason": "File modification requires user approval",
            "created_at": stamp(self.at),
            "status": status,
            "decision_at": None if status == "pending" else stamp(self.at),
        }
        insert(self.path, "pending_approvals", **(row | values))
        return str(row["id"])

    def switch(self, to_agent: str, from_agent: str | None = None, reason: str | None = "r") -> None:
        """Hand over."""
        self.at += timedelta(seconds=1)
        insert(
            self.path,
            "agent_switches",
            id=str(uuid.uuid4()),
            context_db_id=self.context,
            from_agent=from_agent,
            to_agent=to_agent,
            switched_at=stamp(self.at),
            reason=reason,
        )


async def import_reference(
    settings: Settings,
    urls: tuple[str, str],
    *,
    owner: str | None = "alice",
    key: TokenKey | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Take over as the command does."""
    return await reference_import.import_reference(
        Installation(settings),
        agent_url=urls[0],
        auth_url=urls[1],
        key=key,
        owner=owner,
        dry_run=dry_run,
        progress=Quiet(),
    )


async def fill_postgres(path: Path, url: str) -> None:
    """Make the tables of a SQLite file of the reference in PostgreSQL, as the reference would, with their rows."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as source:
        tables = source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        tables.sort(key=lambda table: "REFERENCES agent_contexts" in table[1])
        tables.sort(key=lambda table: "REFERENCES" in table[1])
        connection = await asyncpg.connect(url)
        try:
            for name, ddl in tables:
                await connection.execute(ddl.replace("DATETIME", "TIMESTAMP WITH TIME ZONE"))
                indexes = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
                for (index,) in source.execute(indexes, (name,)):
                    await connection.execute(index)
                kinds = [row[2] for row in source.execute(f"PRAGMA table_info({name})")]
                rows = [_typed(row, kinds) for row in source.execute(f"SELECT * FROM {name} ORDER BY rowid")]  # noqa: S608 - ours
                marks = ", ".join(f"${number + 1}" for number in range(len(kinds)))
                await connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)  # noqa: S608 - ours
        finally:
            await connection.close()


def _typed(row: Sequence[Any], kinds: list[str]) -> list[Any]:
    readers: dict[str, Callable[[Any], Any]] = {
        "DATETIME": lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC),
        "BOOLEAN": bool,
    }
    return [
        value if value is None else readers.get(kind, lambda same: same)(value)
        for value, kind in zip(row, kinds, strict=True)
    ]


async def dump(settings: Settings) -> dict[str, list[Any]]:
    """Read every table of both databases of an installation; none where a SQLite file is not there."""
    found: dict[str, list[Any]] = {}
    for name, store in Installation(settings).stores.items():
        if store.url.path is not None:
            if store.url.path.exists():
                with contextlib.closing(sqlite3.connect(store.url.path)) as connection:
                    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                    for (table,) in tables:
                        found[f"{name}.{table}"] = sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608 - ours
            continue
        connection = await asyncpg.connect(store.url.dsn)
        try:
            for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                rows = await connection.fetch(f"SELECT * FROM {row[0]}")  # noqa: S608 - ours
                found[f"{name}.{row[0]}"] = sorted((tuple(each) for each in rows), key=repr)
        finally:
            await connection.close()
    return found
