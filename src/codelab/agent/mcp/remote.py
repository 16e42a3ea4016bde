"""Asking MCP servers: what they offer, and calls of it. Each asks over a connection of its own, with an end in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.places import read_place
from codelab.text import canonical_json, scrub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mcp.client import Client

__all__ = ("Answer", "McpFailed", "Place", "call_tool", "list_tools")

#: Seconds that a server may take to tell its tools, and the pages in which it may.
LIST_SECONDS, MAX_PAGES = 10.0, 20
#: Bytes around a result: JSON escapes, and the messages before it.
_SLACK = 1024 * 1024
CUT = "\n[cut: the result had more than {} bytes]"


class McpFailed(Exception):
    """Say in a few words why a server gave no answer; never what it said itself, nor where it is."""


class Place(msgspec.Struct, frozen=True):
    """Where a server is, and how it is asked."""

    name: str
    url: str
    headers: dict[str, str]
    allowed: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """What a call brought: text, or the error that the tool told."""

    text: str
    is_error: bool


async def list_tools(place: Place) -> list[Any]:
    """Return the tools that a server offers, as the SDK reads them.

    Raises:
        McpFailed: it gives no answer.
    """
    async with _failing(place, LIST_SECONDS, "telling its tools"), _connect(place, _SLACK) as client:
        import mcp_types

        tools: list[Any] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            # Not the SDK's own method: it would check results against schemas that a stranger wrote.
            params = mcp_types.PaginatedRequestParams(cursor=cursor)
            page = await client.session.send_request(
                mcp_types.ListToolsRequest(params=params), mcp_types.ListToolsResult
            )
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        return tools


async def call_tool(place: Place, name: str, arguments: Mapping[str, Any], *, seconds: float, most: int) -> Answer:
    """Call a tool; of a longer result than ``most`` bytes the rest is cut off.

    Raises:
        McpFailed: it gives no answer; nobody knows then whether it did something.
    """
    async with _failing(place, seconds, "the call"), _connect(place, 2 * most + _SLACK) as client:
        import mcp_types

        params = mcp_types.CallToolRequestParams(name=name, arguments=dict(arguments))
        result = await client.session.send_request(
            mcp_types.CallToolRequest(params=params), mcp_types.CallToolResult, request_read_timeout_seconds=seconds
        )
        return Answer(_cut(_read(result), most), result.is_error)


@asynccontextmanager
async def _connect(place: Place, most: int) -> AsyncIterator[Client]:
    # Late, as all of the SDK: together they cost more than half a second, and few servers use them.
    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    from codelab.agent.mcp.transport import Guarded

    transport = Guarded(read_place(place.url, place.allowed), place.allowed, most)
    async with httpx2.AsyncClient(transport=transport, headers=place.headers, timeout=None, trust_env=False) as http:
        way = streamable_http_client(place.url, http_client=http, max_sse_event_size=most)
        async with Client(way, cache=None) as client:
            yield client


@asynccontextmanager
async def _failing(place: Place, seconds: float, doing: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise McpFailed(f"The MCP server {place.name} took longer than {seconds:g} seconds for {doing}.") from None
    except Exception:  # noqa: BLE001 - the SDK, its libraries, a stranger's server: all means the same
        raise McpFailed(f"The MCP server {place.name} could not be asked, or gave no valid answer.") from None


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
