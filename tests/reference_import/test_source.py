"""The reference's databases are read as they are and never changed."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from codelab.errors import StartError
from codelab.reference import open_source
from tests.reference_import.reference import Reference, Talk, dump, fill_postgres, import_reference
from tests.support.databases import DatabaseUrls
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codelab.settings import Settings
    from tests.support.databases import PostgresServer


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Time and content of each file; of SQLite's shared memory, which is no data, there is nothing to keep."""
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
        if not path.name.endswith("-shm")
    }


async def texts(path: Path) -> list[str]:
    """Read the messages of a file through the reader."""
    async with open_source("agent", f"sqlite:///{path}") as source:
        return [row["content"] for row in await source.rows("SELECT content FROM messages ORDER BY rowid")]


@contextlib.contextmanager
def writing(path: Path, *, kill: bool) -> Iterator[subprocess.Popen[str]]:
    """Let another process add a message in WAL mode without a checkpoint, and stay there or be killed."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA journal_mode = WAL')\n"
        "c.execute('PRAGMA wal_autocheckpoint = 0')\n"
        "c.execute(\"UPDATE messages SET content = 'only in the log'\")\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        if kill:
            process.kill()
            process.wait()
        yield process
    finally:
        process.communicate()


@pytest.fixture
def talk(reference: Reference) -> Talk:
    """One session with one message."""
    talk = Talk(reference)
    talk.user("in the file")
    return talk


class TestSqlite:
    @pytest.mark.parametrize("mode", ["WAL", "DELETE"])
    async def test_a_file_that_nobody_has_open(self, reference: Reference, talk: Talk, mode: str) -> None:
        """Neither a byte nor a time changes, and nothing is left beside the file."""
        with contextlib.closing(sqlite3.connect(reference.agent)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        before = state(reference.agent.parent)

        assert await texts(reference.agent) == ["in the file"]
        assert state(reference.agent.parent) == before
        assert not list(reference.agent.parent.glob("*-shm"))

    async def test_a_file_in_use_with_a_log(self, reference: Reference, talk: Talk) -> None:
        """What another process committed to its write-ahead log is read, and the process is not disturbed."""
        with writing(reference.agent, kill=False):
            before = state(reference.agent.parent)
            assert before[f"{reference.agent.name}-wal"]
            assert await texts(reference.agent) == ["only in the log"]
            assert state(reference.agent.parent) == before

    async def test_what_a_killed_process_left(self, reference: Reference, talk: Talk) -> None:
        """A log that was never played back is read."""
        with writing(reference.agent, kill=True):
            before = state(reference.agent.parent)
            assert await texts(reference.agent) == ["only in the log"]
            assert state(reference.agent.parent) == before

    async def test_a_copy_with_its_log(self, reference: Reference, talk: Talk, tmp_path: Path) -> None:
        """A file that was copied with its log, without the shared memory, is read whole, from a read-only place too."""
        copy = tmp_path / "copy" / "agent.db"
        copy.parent.mkdir()
        with writing(reference.agent, kill=True):
            for suffix in ("", "-wal"):
                shutil.copy(f"{reference.agent}{suffix}", f"{copy}{suffix}")
        before = state(copy.parent)
        copy.parent.chmod(0o500)

        assert await texts(copy) == ["only in the log"]
        assert state(copy.parent) == before

    async def test_a_write_that_was_cut_off(self, reference: Reference, talk: Talk, tmp_path: Path) -> None:
        """A rollback journal that a dead process left is played back in the copy, not in the original."""
        copy = tmp_path / "copy" / "agent.db"
        copy.parent.mkdir()
        with contextlib.closing(sqlite3.connect(reference.agent, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("BEGIN")
            connection.execute("UPDATE messages SET content = 'half'")
            connection.execute("PRAGMA cache_spill = 1")
            for number in range(2000):  # more than the cache holds: pages are written before the commit
                connection.execute(
                    "INSERT INTO messages (id, session_db_id, role, content, timestamp)"
                    " VALUES (?, 'talk', 'user', ?, '2026-11-02 00:00:00')",
                    (str(number), "x" * 500),
                )
            for suffix in ("", "-journal"):
                shutil.copy(f"{reference.agent}{suffix}", f"{copy}{suffix}")
            connection.execute("ROLLBACK")
        assert copy.stat().st_size > 500_000
        before = state(copy.parent)

        assert await texts(copy) == ["in the file"]
        assert state(copy.parent) == before

    async def test_the_whole_import_leaves_the_files_alone(self, tmp_path: Path, sample: Reference) -> None:
        """Import, second import and dry run leave bytes and times of the files of the reference as they were."""
        before = state(sample.agent.parent)
        databases = f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db"
        settings = make_settings(DatabaseUrls(*databases), tmp_path)
        for dry_run in (True, False, False):
            await import_reference(settings, sample.urls, dry_run=dry_run)

        assert state(sample.agent.parent) == before


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "there is no such file"),
            (b"", "there is no such file, or it is empty"),
            (b"dear diary\n" * 500, "file is not a database"),
        ],
    )
    async def test_no_database(self, tmp_path: Path, content: bytes | None, problem: str) -> None:
        """A file that is not there is not made; another one is told as what it is. One line, with the option."""
        path = tmp_path / "x.db"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StartError, match=problem) as refused:
            await texts(path)

        assert str(refused.value).startswith("--agent-db (sqlite:///")
        assert "\n" not in str(refused.value)
        assert path.exists() == (content is not None)

    async def test_a_folder(self, tmp_path: Path) -> None:
        """A folder is no database."""
        with pytest.raises(StartError, match="cannot be read"):
            await texts(tmp_path)

    async def test_a_damaged_file(self, settings: Settings, sample: Reference) -> None:
        """Pages that are destroyed end the import with one line; nothing of the module is kept."""
        with contextlib.closing(sqlite3.connect(sample.agent)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = 'messages'"
            (page,), (size,) = connection.execute(query).fetchone(), connection.execute("PRAGMA page_size").fetchone()
        with sample.agent.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\x00" * size)
        with pytest.raises(StartError, match=r"--agent-db .*cannot be read: .*malformed"):
            await import_reference(settings, sample.urls)

        assert (await dump(settings))["agent.sessions"] == []

    async def test_the_other_database(self, settings: Settings, sample: Reference) -> None:
        """Swapped options are found out before anything is made."""
        with pytest.raises(StartError, match="no auth database of the reference system; it lacks users") as refused:
            await import_reference(settings, (sample.urls[1], sample.urls[0]))

        assert "--auth-db" in str(refused.value)
        assert await dump(settings) == {}

    async def test_a_database_of_ours(self, migrated: DatabaseUrls, settings: Settings, sample: Reference) -> None:
        """Our own databases are not taken for the reference's."""
        with pytest.raises(StartError, match="this is a database of codelab"):
            await import_reference(settings, (migrated.agent, sample.urls[1]))

    async def test_the_references_database_as_target(self, tmp_path: Path, sample: Reference) -> None:
        """Settings that still name the reference's own files are refused with the command; nothing is touched."""
        settings = make_settings(DatabaseUrls(*sample.urls), tmp_path)
        before = state(sample.agent.parent)
        for dry_run in (True, False):
            with pytest.raises(StartError) as refused:
                await import_reference(settings, sample.urls, dry_run=dry_run)
            expected = f"run: codelab db import-reference --agent-db {sample.urls[0]} --auth-db URL"
            assert str(refused.value).endswith(expected)

        assert {name: s for name, s in state(sample.agent.parent).items() if not name.endswith(".serving")} == before

    async def test_a_server_that_is_away(self, settings: Settings, sample: Reference) -> None:
        """A PostgreSQL that does not answer is one line without the password."""
        url = "postgresql://u:hunter2@127.0.0.1:1/db"
        with pytest.raises(StartError, match="cannot be opened") as refused:
            await import_reference(settings, (sample.urls[0], url))

        assert str(refused.value).startswith("--auth-db (postgresql://u:***@127.0.0.1:1/db)")

    async def test_a_column_that_is_missing(self, postgresql: PostgresServer, sample: Reference) -> None:
        """PostgreSQL databases are looked at as closely as files."""
        with contextlib.closing(sqlite3.connect(sample.agent)) as connection:
            connection.execute("ALTER TABLE messages DROP COLUMN tool_calls")
        url = postgresql.create()
        try:
            await fill_postgres(sample.agent, url)
            with pytest.raises(StartError, match=r"it lacks messages\.tool_calls"):
                async with open_source("agent", url):
                    pass
        finally:
            postgresql.drop(url)
