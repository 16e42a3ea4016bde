"""Fixtures for talking to a scripted model server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codelab.agent.providers.openai import OpenAIClient
from tests.agent.providers.upstream import Upstream, run_upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

API_KEY = "sk-test-Zq81kLmN0pXy7Wv3"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A model server on a free port."""
    async with run_upstream() as server:
        yield server


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[OpenAIClient]:
    """A client of ``upstream`` with a key."""
    made = OpenAIClient(upstream.url, API_KEY, connect_timeout=5, idle_timeout=30)
    yield made
    await made.close()
