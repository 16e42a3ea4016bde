"""Fixtures that every test may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.databases import DIALECTS, DatabaseUrls, PostgresServer, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
