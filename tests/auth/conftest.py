from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from codelab.settings import AuthSettings
from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.browser import Browser, browsing
from tests.support.flows import WEB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> AuthSettings:
    """Settings of a module ``auth`` on an empty database."""
    return AuthSettings(
        db_url=database_url, key_encryption_key_file=tmp_path / "keys" / "auth.key", master_key=PASSWORD
    )


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
