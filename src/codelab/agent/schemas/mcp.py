"""MCP servers of a session on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from codelab.agent.mcp.tools import SERVER_NAME, ForeignTool
from codelab.text import Input

if TYPE_CHECKING:
    from sqlalchemy import Row

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
    """A server and the tools that it offered last; ``error`` says why it could not be asked since."""

    id: str
    name: str
    url: str
    has_headers: bool
    tools: list[McpToolInfo]
    error: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row."""
        tools = msgspec.json.decode(row.tools, type=list[ForeignTool])
        return cls(
            id=row.id,
            name=row.name,
            url=row.url,
            has_headers=row.headers is not None,
            tools=[McpToolInfo(tool.name, tool.remote, tool.description, tool.parameters) for tool in tools],
            error=row.error,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class McpServerList(msgspec.Struct):
    """The servers of a session, in the order in which they were added."""

    mcp_servers: list[McpServerInfo]
