"""Fixtures that every test may ask for."""

from __future__ import annotations

import random
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import DIALECTS, DatabaseUrls, PostgresServer, Template, make_template, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--soak``, where what depends on chance is tried more often and sizes are larger, and ``--seed``."""
    parser.addoption("--soak", action="store_true", help="try what depends on chance more often (minutes, not seconds)")
    parser.addoption("--seed", type=int, help="the seed of what depends on chance; a failure prints the one it had")


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: whoever runs tests in the background tells all to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Make what every other test does cheaper, once all is imported."""
    from tests.support.speed import collect_less, remember_signatures

    remember_signatures()
    collect_less()


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the run is one with ``--soak``."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of what depends on chance; pytest shows it when the test fails."""
    given = request.config.getoption("--seed")
    chosen = int(given) if given is not None else random.randrange(2**32)
    print(f"--seed {chosen}")  # noqa: T201 - for whoever reads the report of a failure
    return chosen


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run; ``postgresql.bin / "psql"`` is its client."""
    base = tmp_path_factory.getbasetemp()
    with postgres_server(base.parent if hasattr(request.config, "workerinput") else base) as server:
        yield server


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """``sqlite`` and ``postgresql``: a test that uses a database runs on both."""
    return str(request.param)


@pytest.fixture
def make_database(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Call it for the URL of one more empty database of the dialect; all are gone after the test."""
    made: list[str] = []
    server: PostgresServer | None = None
    if dialect == "postgresql":
        server = request.getfixturevalue("postgresql")

    def make() -> str:
        url = server.create() if server else f"sqlite:///{tmp_path}/{len(made)}.db"
        made.append(url)
        return url

    yield make
    if server:
        for url in made:
            server.drop(url)


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """The URL of one empty database."""
    return make_database()


@pytest.fixture
def databases(make_database: Callable[[], str]) -> DatabaseUrls:
    """The URLs of two empty databases, ``agent`` and ``auth``."""
    return DatabaseUrls(agent=make_database(), auth=make_database())


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Two migrated SQLite databases, made once for each worker."""
    folder = tmp_path_factory.mktemp("template")
    return make_template(DatabaseUrls(f"sqlite:///{folder}/agent.db", f"sqlite:///{folder}/auth.db"), folder)


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """Two migrated PostgreSQL databases, made once for each worker."""
    databases = DatabaseUrls(postgresql.create(), postgresql.create())
    yield make_template(databases, tmp_path_factory.mktemp("template"))
    postgresql.drop(databases.agent)
    postgresql.drop(databases.auth)


@pytest.fixture
def migrated(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DatabaseUrls]:
    """Two migrated databases of the dialect, ``agent`` and ``auth``, with the key file in ``tmp_path``: copies."""
    template: Template = request.getfixturevalue(f"{dialect}_template")
    shutil.copy(template.key_file, tmp_path)
    if dialect == "sqlite":
        for url in (template.databases.agent, template.databases.auth):
            shutil.copy(url.removeprefix("sqlite:///"), tmp_path)
        yield DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db")
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    databases = DatabaseUrls(server.create(template.databases.agent), server.create(template.databases.auth))
    yield databases
    server.drop(databases.agent)
    server.drop(databases.auth)
