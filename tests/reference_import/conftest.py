from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from codelab.installation import Installation
from tests.reference_import.reference import Reference
from tests.support.databases import DatabaseUrls, run_in_thread
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codelab.settings import Settings
    from tests.support.databases import PostgresServer


@pytest.fixture
def sample(tmp_path: Path) -> Reference:
    """The databases that the reference made itself."""
    return Reference.sample(tmp_path / "reference")


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """An installation of the reference with one user and no session."""
    return Reference.empty(tmp_path / "reference")


@pytest.fixture
def settings(databases: DatabaseUrls, tmp_path: Path) -> Settings:
    """An installation of ours whose databases are empty: no server ever started on them."""
    return make_settings(databases, tmp_path)


async def _make_tables(settings: Settings) -> None:
    for store in Installation(settings).stores.values():
        database = store.open()
        await database.start(0)
        await database.stop()


@pytest.fixture(scope="session")
def tables_sqlite(tmp_path_factory: pytest.TempPathFactory) -> DatabaseUrls:
    """Two SQLite databases that have their tables and no row, made once for each worker."""
    folder = tmp_path_factory.mktemp("tables")
    urls = DatabaseUrls(f"sqlite:///{folder}/agent.db", f"sqlite:///{folder}/auth.db")
    run_in_thread(lambda: _make_tables(make_settings(urls, folder)))
    return urls


@pytest.fixture(scope="session")
def tables_postgresql(postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseUrls]:
    """Two PostgreSQL databases that have their tables and no row, made once for each worker."""
    urls = DatabaseUrls(postgresql.create(), postgresql.create())
    run_in_thread(lambda: _make_tables(make_settings(urls, tmp_path_factory.mktemp("tables"))))
    yield urls
    postgresql.drop(urls.agent)
    postgresql.drop(urls.auth)


@pytest.fixture
def settings_with_tables(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """An installation of ours whose databases have their tables and no row: quicker than ``settings``."""
    template: DatabaseUrls = request.getfixturevalue(f"tables_{dialect}")
    if dialect == "sqlite":
        for url in (template.agent, template.auth):
            shutil.copy(url.removeprefix("sqlite:///"), tmp_path)
        yield make_settings(DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db"), tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    urls = DatabaseUrls(server.create(template.agent), server.create(template.auth))
    yield make_settings(urls, tmp_path)
    server.drop(urls.agent)
    server.drop(urls.auth)
