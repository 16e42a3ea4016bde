from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from codelab.settings import AuthSettings
from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.browser import Browser, browsing
from tests.support.databases import run_in_thread
from tests.support.flows import WEB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls, PostgresServer


def _settings(url: str, folder: Path) -> AuthSettings:
    return AuthSettings(db_url=url, key_encryption_key_file=folder / "keys" / "auth.key", master_key=PASSWORD)


@pytest.fixture
def new_settings(database_url: str, tmp_path: Path) -> AuthSettings:
    """Settings of a module ``auth`` on an empty database."""
    return _settings(database_url, tmp_path)


def _start_once(settings: AuthSettings) -> AuthSettings:
    async def start() -> None:
        async with running_auth(settings):
            pass

    run_in_thread(start)
    return settings


@pytest.fixture(scope="session")
def auth_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> AuthSettings:
    """A SQLite database as the first start leaves it, made once for each worker."""
    folder = tmp_path_factory.mktemp("auth-template")
    return _start_once(_settings(f"sqlite:///{folder}/auth.db", folder))


@pytest.fixture(scope="session")
def auth_postgresql_template(
    postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AuthSettings]:
    """A PostgreSQL database as the first start leaves it, made once for each worker."""
    url = postgresql.create()
    yield _start_once(_settings(url, tmp_path_factory.mktemp("auth-template")))
    postgresql.drop(url)


@pytest.fixture
def settings(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[AuthSettings]:
    """Settings of a module ``auth`` on a copy of a database that the first start has filled: quicker than a start."""
    template: AuthSettings = request.getfixturevalue(f"auth_{dialect}_template")
    made = _settings(f"sqlite:///{tmp_path}/0.db", tmp_path)
    made.key_encryption_key_file.parent.mkdir()
    shutil.copy(template.key_encryption_key_file, made.key_encryption_key_file)
    if dialect == "sqlite":
        shutil.copy(template.db_url.removeprefix("sqlite:///"), tmp_path / "0.db")
        yield made
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.create(template.db_url)
    yield replace(made, db_url=url)
    server.drop(url)


@pytest.fixture
async def auth(settings: AuthSettings) -> AsyncIterator[RunningAuth]:
    """A running module ``auth`` with the user ``admin``."""
    async with running_auth(settings) as running:
        yield running


@pytest.fixture
async def served(migrated: DatabaseUrls, tmp_path: Path) -> AsyncIterator[RunningAuth]:
    """A running module on a copy of a migrated database, with the user ``ada``: quicker than ``auth``."""
    settings = AuthSettings(db_url=migrated.auth, key_encryption_key_file=tmp_path / "auth.key")
    async with running_auth(settings) as running:
        await running.module.operators.users.create(Actor("tests", Origin()), "ada", "ada@example.com", PASSWORD)
        yield running


@pytest.fixture
async def provider(auth: RunningAuth) -> RunningAuth:
    """The module with a client on the web and one on people's machines."""
    both = ("authorization_code", "refresh_token")
    await auth.client("web", *both, redirect_uris=[WEB])
    await auth.client("native", *both, redirect_uris=["http://127.0.0.1/callback"])
    return auth


@pytest.fixture
async def browser(auth: RunningAuth) -> AsyncIterator[Browser]:
    """A browser in which nobody is signed in."""
    async with browsing(auth.app) as found:
        yield found
