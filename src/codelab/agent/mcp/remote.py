"""Asking MCP servers: what they offer, and calls of it, each with an end in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from codelab.text import canonical_json, scrub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.client import ClientSession

__all__ = ("SLACK", "Answer", "McpFailed", "Way", "call_tool", "list_tools", "read_pages")

#: Seconds that a server may take to tell its tools, the pages in which it may, and how many are enough.
LIST_SECONDS, MAX_PAGES, ENOUGH = 10.0, 20, 1000
#: Bytes around a result: JSON escapes, and the messages before it.
SLACK = 1024 * 1024
CUT = "\n[cut: the result had more than {} bytes]"


class McpFailed(Exception):
    """Say in a few words why a server gave no answer; never what it said itself, nor where it is."""


class Way(Protocol):
    """How a server is asked: over a connection of its own, or over one that is there."""

    @property
    def name(self) -> str:
        """What the server is called."""

    def connect(self, most: int) -> AbstractAsyncContextManager[ClientSession]:
        """Open a session with it, in which no answer has more than about ``most`` bytes; raise ``McpFailed``."""


class Answer(msgspec.Struct, frozen=True):
    """What a call brought: text, or the error that the tool told."""

    text: str
    is_error: bool


async def list_tools(way: Way) -> list[Any]:
    """Return the tools that a server offers, as the SDK reads them.

    Raises:
        McpFailed: it gives no answer.
    """
    async with _failing(way.name, LIST_SECONDS, "telling its tools"), way.connect(SLACK) as session:
        return await read_pages(session)


async def read_pages(session: ClientSession) -> list[Any]:
    """Return the tools that a server offers over a session; raise what the SDK raises."""
    import mcp_types

    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        # Not the SDK's own method: it would check results against schemas that a stranger wrote.
        params = mcp_types.PaginatedRequestParams(cursor=cursor)
        page = await session.send_request(mcp_types.ListToolsRequest(params=params), mcp_types.ListToolsResult)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= ENOUGH:
            break
    return tools


async def call_tool(way: Way, name: str, arguments: Mapping[str, Any], *, seconds: float, most: int) -> Answer:
    """Call a tool; of a longer result than ``most`` bytes the rest is cut off.

    Raises:
        McpFailed: it gives no answer; nobody knows then whether it did something.
    """
    async with _failing(way.name, seconds, "the call"), way.connect(2 * most + SLACK) as session:
        import mcp_types

        params = mcp_types.CallToolRequestParams(name=name, arguments=dict(arguments))
        result = await session.send_request(
            mcp_types.CallToolRequest(params=params), mcp_types.CallToolResult, request_read_timeout_seconds=seconds
        )
        return Answer(_cut(_read(result), most), result.is_error)


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


def _read(result: Any) -> str:
    parts: list[str] = []
    for block in result.content:
        match block.type:
            case "text":
                parts.append(block.text)
            case "image" | "audio":
                parts.append(f"[{block.type}, {block.mime_type[:100]}, {len(block.data) * 3 // 4} bytes: not shown]")
            case "resource" if (text := getattr(block.resource, "text", None)) is not None:
                parts.append(text)
            case "resource":
                parts.append(f"[a resource: {str(block.resource.uri)[:500]}]")
            case "resource_link":
                parts.append(f"[a link: {str(block.uri)[:500]}]")
    if not parts and result.structured_content is not None:
        parts.append(canonical_json(result.structured_content))
    return scrub("\n".join(parts))


def _cut(text: str, most: int) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return text
    return raw[:most].decode("utf-8", "ignore") + CUT.format(most)
