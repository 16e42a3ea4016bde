"""MCP servers of a session on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from codelab.agent.mcp.tools import SERVER_NAME, ForeignTool
from codelab.agent.readers import CLIENT_ID
from codelab.text import Input

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row

    from codelab.agent.mcp.stdio.child import Child

__all__ = ("ListedTool", "McpServerInfo", "McpServerList", "McpToolInfo", "NewMcpServer", "ToolHints")

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$(?!\n)")]
HeaderValue = Annotated[str, Meta(pattern=r"^[\x20-\x7e]{0,4096}$(?!\n)")]


class ToolHints(msgspec.Struct, kw_only=True, rename="camel"):
    """What a tool says of itself (``ToolAnnotations`` of MCP)."""

    read_only_hint: bool | None = None
    idempotent_hint: bool | None = None


class ListedTool(Input, kw_only=True, rename="camel"):
    """A tool as its server lists it (``Tool`` of MCP)."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    description: str | None = None
    input_schema: dict[str, Any]
    annotations: ToolHints | None = None


class NewMcpServer(Input):
    """Add a server.

    codelab reaches it at its ``url``; ``headers`` go with each request to it, are kept encrypted, and never shown
    again. Or the client ``client_id`` runs it, and tells its ``tools``.
    """

    name: Annotated[str, Meta(pattern=SERVER_NAME)]
    transport: Literal["http", "client"] = "http"
    url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=16)] | None = None
    client_id: Annotated[str, Meta(pattern=CLIENT_ID)] | None = None
    tools: Annotated[list[ListedTool], Meta(max_length=256)] | None = None


class McpToolInfo(msgspec.Struct):
    """A tool: ``tool_name`` is what models and rules call it, ``name`` what its server does."""

    tool_name: str
    name: str
    description: str
    parameters: dict[str, Any]


class McpServerInfo(msgspec.Struct, kw_only=True):
    """A server and the tools that it offered last; ``error`` says why it could not be asked since.

    One with a ``url`` is called by codelab, one with a ``client_id`` is run by that client.
    One of scope ``operator`` is in every session, and is named in the operator's file: it has no URL and no times.
    """

    id: str
    name: str
    transport: Literal["http", "client", "stdio"]
    scope: Literal["operator", "session"] = "session"
    url: str | None
    client_id: str | None
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
            transport="http" if row.client_id is None else "client",
            url=row.url or None,
            client_id=row.client_id,
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
            client_id=None,
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
