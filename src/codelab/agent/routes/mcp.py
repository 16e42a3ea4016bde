"""Routes of the MCP servers of a session."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from codelab.agent.mcp import McpService
from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas.mcp import McpServerInfo, McpServerList, NewMcpServer
from codelab.repeating import Repeatable

__all__ = ("HANDLERS",)


@post(
    "/sessions/{session_id:str}/mcp-servers",
    opt={"scope": "approvals:decide"},
    operation_class=Repeatable,
    summary="Add an MCP server",
)
async def add_mcp_server(
    session_id: FromPath[str],
    data: JSONBody[NewMcpServer],
    request: AgentRequest,
    mcp: NamedDependency[McpService],
) -> McpServerInfo:
    """Give a session the tools of an MCP server."""
    return await mcp.add(request.principal, session_id, data, request.once)


@get("/sessions/{session_id:str}/mcp-servers", summary="The MCP servers of a session")
async def list_mcp_servers(
    session_id: FromPath[str], request: AgentRequest, mcp: NamedDependency[McpService]
) -> McpServerList:
    """List the servers and their tools."""
    return await mcp.list(request.principal, session_id)


@delete(
    "/sessions/{session_id:str}/mcp-servers/{server_id:str}",
    opt={"scope": "approvals:decide"},
    summary="Take an MCP server away",
)
async def remove_mcp_server(
    session_id: FromPath[str], server_id: FromPath[str], request: AgentRequest, mcp: NamedDependency[McpService]
) -> None:
    """Take a server from a session."""
    await mcp.remove(request.principal, session_id, server_id)


HANDLERS = (add_mcp_server, list_mcp_servers, remove_mcp_server)
