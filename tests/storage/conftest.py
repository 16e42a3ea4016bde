"""Databases with rows in every table, and the command line as an operator uses it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from codelab.installation import MODULES
from tests.storage.filled import fill
from tests.storage.hostile import fill as fill_hostile
from tests.support.databases import DatabaseUrls, run_in_thread
from tests.support.forking import fork_codelab
from tests.support.process import clean_environ
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.databases import PostgresServer, Template


def _fill(template: Template, databases: DatabaseUrls, folder: Path) -> DatabaseUrls:
    shutil.copy(template.key_file, folder)

    async def work() -> None:
        async with serving(make_settings(databases, folder)) as server:
            await fill(server)

    run_in_thread(work)
    return databases


@pytest.fixture(scope="session")
def filled_sqlite(sqlite_template: Template, tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrls:
    """Two SQLite databases that a server has filled, made once for each worker."""
    folder = tmp_path_factory.mktemp("filled")
    for url in (sqlite_template.databases.agent, sqlite_template.databases.auth):
        shutil.copy(url.removeprefix("sqlite:///"), folder)
    return _fill(sqlite_template, DatabaseUrls(f"sqlite:///{folder}/agent.db", f"sqlite:///{folder}/auth.db"), folder)


@pytest.fixture(scope="session")
def filled_postgresql(
    postgresql: PostgresServer, postgresql_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DatabaseUrls]:
    """Two PostgreSQL databases that a server has filled, made once for each worker."""
    source = postgresql_template.databases
    made = DatabaseUrls(postgresql.create(source.agent), postgresql.create(source.auth))
    yield _fill(postgresql_template, made, tmp_path_factory.mktemp("filled"))
    postgresql.drop(made.agent)
    postgresql.drop(made.auth)


@pytest.fixture
def filled(migrated: DatabaseUrls, dialect: str, request: pytest.FixtureRequest) -> DatabaseUrls:
    """Both databases after turns with calls, approvals, hand-overs, cancels and rotated tokens; nobody serves them."""
    made: DatabaseUrls = request.getfixturevalue(f"filled_{dialect}")
    for url, source in ((migrated.agent, made.agent), (migrated.auth, made.auth)):
        if dialect == "sqlite":
            shutil.copy(source.removeprefix("sqlite:///"), url.removeprefix("sqlite:///"))
        else:
            request.getfixturevalue("postgresql").replace(url, source)
    return migrated


@dataclass
class Operator:
    """Run ``codelab db`` on two databases."""

    folder: Path
    databases: DatabaseUrls
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every command."""
        return clean_environ(
            self.folder,
            **{
                "AGENT_RUNTIME__DB_URL": self.databases.agent,
                "AUTH_SERVICE__DB_URL": self.databases.auth,
                "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE": str(self.folder / "auth.key"),
                **self.extra,
            },
        )

    def db(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return fork_codelab("db", *arguments, folder=self.folder, environ=self.environ)

    def told(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``--json`` and return its document."""
        done = self.db(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def line(self, *arguments: str, code: int) -> str:
        """Run a command that fails, and return the one line that it says."""
        done = self.db(*arguments)
        assert done.returncode == code, done.stderr + done.stdout
        (line,) = done.stderr.splitlines()
        assert "Traceback" not in done.stdout
        return line


@pytest.fixture
def programs(dialect: str, request: pytest.FixtureRequest) -> str:
    """A PATH on which PostgreSQL's programs are those of the server of the tests."""
    path = os.environ.get("PATH", "")
    if dialect == "postgresql":
        folder = request.getfixturevalue("postgresql").bin
        if folder is not None:
            return f"{folder}{os.pathsep}{path}"
    return path


@pytest.fixture
def operator(migrated: DatabaseUrls, tmp_path: Path, programs: str) -> Operator:
    """An operator of the databases of ``migrated`` or ``filled``."""
    return Operator(tmp_path, migrated, {"PATH": programs})


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """Call it with a dialect for the URL of one more empty database."""
    made: list[str] = []
    numbers = itertools.count()

    def make(dialect: str) -> str:
        if dialect == "sqlite":
            return f"sqlite:///{tmp_path}/made-{next(numbers)}.db"
        server: PostgresServer = request.getfixturevalue("postgresql")
        made.append(server.create())
        return made[-1]

    yield make
    if made:
        for url in made:
            request.getfixturevalue("postgresql").drop(url)


@pytest.fixture(scope="session")
def hostile_template(sqlite_template: Template, tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrls:
    """Two SQLite databases with hostile rows in every table."""
    folder = tmp_path_factory.mktemp("hostile")
    urls = {}
    for name, source in (("agent", sqlite_template.databases.agent), ("auth", sqlite_template.databases.auth)):
        shutil.copy(source.removeprefix("sqlite:///"), folder / f"{name}.db")
        urls[name] = f"sqlite:///{folder / name}.db"
        fill_hostile(MODULES[name].schema, urls[name])
    return DatabaseUrls(**urls)


@pytest.fixture
def hostile(hostile_template: DatabaseUrls, tmp_path: Path) -> DatabaseUrls:
    """Copies of them, which a test may change."""
    for url in (hostile_template.agent, hostile_template.auth):
        shutil.copy(url.removeprefix("sqlite:///"), tmp_path)
    return DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db")
