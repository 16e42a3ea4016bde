"""How the parts of the application are put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from codelab.app import create_app
from tests.support.apps import living
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from codelab.db import Database
    from tests.support.databases import DatabaseUrls


async def test_connections_are_closed_after_the_modules_have_stopped(
    databases: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module stops with the pool that it worked with; one closed under it would leave connections open."""
    app = create_app(make_settings(databases, tmp_path), issuer="http://127.0.0.1:8000")
    modules: list[Database] = [app.state.auth.database, app.state.agent.database]
    closed_early: list[str] = []

    async def stop(database: Database, pool: object, stop: Callable[[], Awaitable[None]]) -> None:
        if database.engine.pool is not pool:
            closed_early.append(database.module)
        await stop()

    async with living(app):
        for database in modules:
            monkeypatch.setattr(database, "stop", partial(stop, database, database.engine.pool, database.stop))

    assert closed_early == []
