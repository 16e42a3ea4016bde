"""A running server for the tests of module ``agent``, on both databases."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from codelab.agent.storage import SCHEMA
from codelab.db import Database, parse_url
from tests.agent.providers.upstream import Upstream, run_upstream
from tests.agent.transcripts import check_transcript
from tests.support.server import Person, Running, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

    Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Running]]

API_KEY = "sk-test-Zq81kLmN0pXy7Wv3"


@pytest.fixture(autouse=True)
def nothing_unexpected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may make the server log an error that nobody expected."""
    yield
    bugs = [record for record in caplog.get_records("call") if "nobody expected" in record.getMessage()]
    assert not bugs, bugs[0].getMessage() + "\n" + str(bugs[0].exc_info)


@pytest.fixture
async def database(migrated: DatabaseUrls) -> AsyncIterator[Database]:
    """The database of module ``agent``, open."""
    database = Database(parse_url(migrated.agent, SCHEMA.variable), SCHEMA)
    await database.start(0)
    yield database
    await database.stop()


@pytest.fixture
def serve(migrated: DatabaseUrls, tmp_path: Path) -> Serve:
    """Make a server on the test's databases, to be entered; arguments are members of ``AgentSettings``."""

    def make(**agent: Any) -> AbstractAsyncContextManager[Running]:
        return serving(make_settings(migrated, tmp_path, **agent))

    return make


@pytest.fixture
async def start(serve: Serve) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Call it for a server that runs until the end of the test."""
    async with AsyncExitStack() as stack:

        async def begin(**agent: Any) -> Running:
            return await stack.enter_async_context(serve(**agent))

        yield begin


@pytest.fixture
async def running(start: Callable[..., Awaitable[Running]]) -> Running:
    """A server with the offline model."""
    return await start()


@pytest.fixture
async def ada(running: Running) -> Person:
    """A person who may do everything but administer."""
    return await running.person()


@pytest.fixture
async def model() -> AsyncIterator[Upstream]:
    """A model server whose every transcript was valid, or the test fails."""
    async with run_upstream() as upstream:
        yield upstream
    for body in upstream.bodies:
        check_transcript(body)


@pytest.fixture
def with_model(model: Upstream) -> dict[str, Any]:
    """The settings of a server that talks to ``model``, and believes its first word about a failure."""
    return {
        "llm_proxy_url": model.url,
        "llm_api_key": API_KEY,
        "llm_model": "test-model",
        "llm_idle_timeout": 20.0,
        "llm_retries": 0,
    }


@pytest.fixture
async def talker(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose server talks to ``model``."""
    return await (await start(**with_model)).person()
