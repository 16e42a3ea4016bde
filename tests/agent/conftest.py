"""A running server for the tests of module ``agent``, on both databases."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.server import Person, Running, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.databases import DatabaseUrls


@pytest.fixture
async def start(databases: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Call it for a server on the test's databases; its arguments are members of ``AgentSettings``."""
    async with AsyncExitStack() as stack:

        async def begin(**agent: Any) -> Running:
            return await stack.enter_async_context(serving(make_settings(databases, tmp_path, **agent)))

        yield begin


@pytest.fixture
async def running(start: Callable[..., Awaitable[Running]]) -> Running:
    """A server with the offline model."""
    return await start()


@pytest.fixture
async def ada(running: Running) -> Person:
    """A person who may do everything but administer."""
    return await running.person()
