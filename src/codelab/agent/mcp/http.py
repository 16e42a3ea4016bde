"""How MCP servers at a URL are connected (streamable HTTP)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.mcp.places import read_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.client import ClientSession

__all__ = ("Place",)


class Place(msgspec.Struct, frozen=True):
    """Where a server is, and what it is shown; each question gets a connection of its own (streamable HTTP)."""

    name: str
    url: str
    headers: dict[str, str]
    allowed: tuple[str, ...]

    @asynccontextmanager
    async def connect(self, most: int) -> AsyncIterator[ClientSession]:
        """Connect, for answers of at most ``most`` bytes; raise what the SDK and its libraries raise."""
        # Late, as all of the SDK: together they cost more than half a second, and few servers use them.
        import httpx2
        from mcp.client import Client
        from mcp.client.streamable_http import streamable_http_client

        from codelab.agent.mcp.transport import Guarded

        transport = Guarded(read_place(self.url, self.allowed), self.allowed, most)
        async with httpx2.AsyncClient(transport=transport, headers=self.headers, timeout=None, trust_env=False) as http:
            way = streamable_http_client(self.url, http_client=http, max_sse_event_size=most)
            async with Client(way, cache=None) as client:
                yield client.session
