"""MCP servers of a session on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from codelab.agent.mcp.tools import SERVER_NAME, ForeignTool
from codelab.text import Input

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row

    from codelab.agent.mcp.stdio.child import Child

__all__ = ("McpServerInfo", "McpServerList", "McpToolInfo", "NewMcpServer")

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$(?!\n)")]
HeaderValue = Annotated[str, Meta(pattern=r"^[\x20-\x7e]{0,4096}$(?!\n)")]


class NewMcpServer(Input):
    """Add a server; ``headers`` go with each request to it, are kept encrypted, and never shown again."""

    name: Annotated[str, Meta(pattern=SERVER_NAME)]
    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=16)] | None = None


class McpToolInfo(msgspec.Struct):
    """A tool: ``tool_name`` is what models and rules call it, ``name`` what its server does."""

    tool_name: str
    name: str
    description: str
    parameters: dict[str, Any]


class McpServerInfo(msgspec.Struct, kw_only=True):
    """A server and the tools that it offered last; ``error`` says why it could not be asked since.

    One of scope ``operator`` is in every session, and is named in the operator's file: it has no URL and no times.
    """

    id: str
    name: str
    transport: Literal["http", "stdio"] = "http"
    scope: Literal["operator", "session"] = "session"
    url: str | None
    has_headers: bool
    tools: list[McpToolInfo]
    error: str | None
    created_at: datetime | None
    updated_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row."""
        return cls(
            id=row.id,
            name=row.name,
            url=row.url,
            has_headers=row.headers is not None,
            tools=_describe(msgspec.json.decode(row.tools, type=list[ForeignTool])),
            error=row.error,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @classmethod
    def from_child(cls, child: Child) -> Self:
        """Make it from a server of the operator: nothing of what its file says about it but the name."""
        return cls(
            id=child.id,
            name=child.name,
            transport="stdio",
            scope="operator",
            url=None,
            has_headers=False,
            tools=_describe(child.tools),
            error=child.error,
            created_at=None,
            updated_at=None,
        )


class McpServerList(msgspec.Struct):
    """The operator's servers, then those of the session, in the order in which they were added."""

    mcp_servers: list[McpServerInfo]


def _describe(tools: Iterable[ForeignTool]) -> list[McpToolInfo]:
    return [McpToolInfo(tool.name, tool.remote, tool.description, tool.parameters) for tool in tools]
