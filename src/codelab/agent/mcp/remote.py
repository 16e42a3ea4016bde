"""Asking MCP servers: what they offer, and calls of it, each with an end in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from codelab.mcpclient import asking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.client import ClientSession

    from codelab.mcpclient.asking import Answer

__all__ = ("ENOUGH", "SLACK", "McpFailed", "Way", "call_tool", "list_tools")

#: Seconds that a server may take to tell its tools, and how many are enough.
LIST_SECONDS, ENOUGH = 10.0, 1000
#: Bytes around a result: JSON escapes, and the messages before it.
SLACK = 1024 * 1024


class McpFailed(Exception):
    """Say in a few words why a server gave no answer; never what it said itself, nor where it is."""


class Way(Protocol):
    """How a server is asked: over a connection of its own, or over one that is there."""

    @property
    def name(self) -> str:
        """What the server is called."""

    def connect(self, most: int) -> AbstractAsyncContextManager[ClientSession]:
        """Open a session with it, in which no answer has more than about ``most`` bytes; raise ``McpFailed``."""


async def list_tools(way: Way) -> list[Any]:
    """Return the tools that a server offers, as the SDK reads them.

    Raises:
        McpFailed: it gives no answer.
    """
    async with _failing(way.name, LIST_SECONDS, "telling its tools"), way.connect(SLACK) as session:
        return await asking.list_tools(session, enough=ENOUGH)


async def call_tool(way: Way, name: str, arguments: Mapping[str, Any], *, seconds: float, most: int) -> Answer:
    """Call a tool; of a longer result than ``most`` bytes the rest is cut off.

    Raises:
        McpFailed: it gives no answer; nobody knows then whether it did something.
    """
    async with _failing(way.name, seconds, "the call"), way.connect(2 * most + SLACK) as session:
        return await asking.call_tool(session, name, arguments, seconds=seconds, most=most)


@asynccontextmanager
async def _failing(name: str, seconds: float, doing: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except McpFailed:
        raise
    except TimeoutError:
        raise McpFailed(f"The MCP server {name} took longer than {seconds:g} seconds for {doing}.") from None
    except Exception:  # noqa: BLE001 - the SDK, its libraries, a stranger's server: all means the same
        raise McpFailed(f"The MCP server {name} could not be asked, or gave no valid answer.") from None
