from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING

import pytest

from codelab.installation import MODULES
from tests.storage.hostile import fill
from tests.support.databases import DatabaseUrls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.databases import PostgresServer, Template


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
        fill(MODULES[name].schema, urls[name])
    return DatabaseUrls(**urls)


@pytest.fixture
def hostile(hostile_template: DatabaseUrls, tmp_path: Path) -> DatabaseUrls:
    """Copies of them, which a test may change."""
    for url in (hostile_template.agent, hostile_template.auth):
        shutil.copy(url.removeprefix("sqlite:///"), tmp_path)
    return DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db")
