"""What MCP servers say, read: their tools, and the results of calls, in bounds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from mcp.client import ClientSession

__all__ = ("MAX_RESULT", "Answer", "list_tools", "read_answer")

#: Bytes of a result that are kept.
MAX_RESULT = 1024 * 1024
#: Tools that are told; the server takes fewer of one server.
MAX_TOOLS, MAX_PAGES, MAX_DESCRIPTION, MAX_DEPTH = 256, 20, 8192, 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Answer(msgspec.Struct, frozen=True):
    """What a call brought: text, or the error that the tool told."""

    text: str
    is_error: bool


async def list_tools(session: ClientSession) -> list[dict[str, Any]]:
    """Ask a server for its tools, and return them in MCP's own shape."""
    import mcp_types

    found: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        # Not the SDK's own method: it would check results against schemas that a stranger wrote.
        params = mcp_types.PaginatedRequestParams(cursor=cursor)
        page = await session.send_request(mcp_types.ListToolsRequest(params=params), mcp_types.ListToolsResult)
        found += [tool for tool in map(_describe, page.tools) if tool is not None]
        cursor = page.next_cursor
        if cursor is None or len(found) >= MAX_TOOLS:
            break
    return found[:MAX_TOOLS]


def _describe(tool: Any) -> dict[str, Any] | None:
    """Write a tool as the server takes it; ``None`` where it does not."""
    if not 0 < len(tool.name) <= 255 or _UNSTORABLE.search(tool.name):
        return None
    try:
        schema = _scrub(tool.input_schema)
    except ValueError:
        return None
    hints = tool.annotations
    return {
        "name": tool.name,
        "description": _scrub((tool.description or "")[:MAX_DESCRIPTION]),
        "inputSchema": schema,
        "annotations": hints and {"readOnlyHint": hints.read_only_hint, "idempotentHint": hints.idempotent_hint},
    }


def _scrub(value: Any, left: int = MAX_DEPTH) -> Any:
    """Put U+FFFD in the place of what cannot be stored; raise ``ValueError`` for what is nested too deeply."""
    match value:
        case str():
            return _UNSTORABLE.sub("\ufffd", value)
        case dict() | list() if left == 0:
            raise ValueError("too deep")
        case dict():
            return {_scrub(str(key)): _scrub(item, left - 1) for key, item in value.items()}
        case list():
            return [_scrub(item, left - 1) for item in value]
        case _:
            return value


def read_answer(result: Any) -> Answer:
    """Read the result of a call as text; what is no text is named with type and size."""
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
            case _:
                parts.append(f"[{block.type}: {str(getattr(block, 'uri', ''))[:500]}]")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = _scrub("\n".join(parts))
    raw = text.encode()
    if len(raw) > MAX_RESULT:
        text = raw[:MAX_RESULT].decode("utf-8", "ignore") + f"\n[cut: the result had more than {MAX_RESULT} bytes]"
    return Answer(text, bool(result.is_error))
