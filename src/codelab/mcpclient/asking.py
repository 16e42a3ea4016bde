"""What a client asks an MCP server over a session: its tools, and calls of them; results as text, in bounds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.client import ClientSession

__all__ = ("Answer", "call_tool", "list_tools")

#: Pages in which a server may tell its tools.
MAX_PAGES = 20
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Answer(msgspec.Struct, frozen=True):
    """What a call brought: text, or the error that the tool told."""

    text: str
    is_error: bool


async def list_tools(session: ClientSession, *, enough: int) -> list[Any]:
    """Return the tools that a server offers, as the SDK reads them; no page is asked for once there are ``enough``.

    Raises what the SDK raises.
    """
    import mcp_types

    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        # Not the SDK's own method: it would check results against schemas that a stranger wrote.
        params = mcp_types.PaginatedRequestParams(cursor=cursor)
        page = await session.send_request(mcp_types.ListToolsRequest(params=params), mcp_types.ListToolsResult)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= enough:
            break
    return tools


async def call_tool(
    session: ClientSession, name: str, arguments: Mapping[str, Any], *, seconds: float, most: int
) -> Answer:
    """Call a tool; of a longer result than ``most`` bytes the rest is cut off, and what is no text is named.

    Raises what the SDK raises.
    """
    import mcp_types

    params = mcp_types.CallToolRequestParams(name=name, arguments=dict(arguments))
    result = await session.send_request(
        mcp_types.CallToolRequest(params=params), mcp_types.CallToolResult, request_read_timeout_seconds=seconds
    )
    return Answer(_cut(_read(result), most), bool(result.is_error))


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
        parts.append(json.dumps(result.structured_content, ensure_ascii=False, sort_keys=True, separators=(",", ":")))
    return _UNSTORABLE.sub("\ufffd", "\n".join(parts))


def _cut(text: str, most: int) -> str:
    raw = text.encode()
    if len(raw) <= most:
        return text
    return f"{raw[:most].decode('utf-8', 'ignore')}\n[cut: the result had more than {most} bytes]"
