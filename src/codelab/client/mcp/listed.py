"""The tools of MCP servers, written for the session."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MAX_TOOLS", "describe_tools")

#: Tools that are told; the server takes fewer of one server.
MAX_TOOLS, MAX_DESCRIPTION, MAX_DEPTH = 256, 8192, 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def describe_tools(listed: Iterable[Any]) -> list[dict[str, Any]]:
    """Write tools in MCP's own shape, without those that codelab does not take."""
    described = (tool for tool in map(_describe, listed) if tool is not None)
    return list(islice(described, MAX_TOOLS))


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
