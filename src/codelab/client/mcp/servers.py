"""All servers of a chat: what they offer is told to its session, and what it is asked to run goes to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from codelab.client.errors import ApiError
from codelab.client.mcp.server import Server
from codelab.client.tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codelab.client.api import Api
    from codelab.client.console import Console
    from codelab.mcpclient import StdioServer

__all__ = ("Servers",)

#: Seconds that the first turn waits for servers which begin, and that a later one does.
PATIENCE, MOMENT = 15.0, 2.0


class Servers:
    """Run servers for one session."""

    def __init__(self, specs: Sequence[StdioServer], environ: Mapping[str, str], console: Console) -> None:
        self._servers = [Server(spec, environ) for spec in specs]
        self._console = console
        #: Server and its own name of each tool that was told, by the name for models.
        self._tools: dict[str, tuple[Server, str]] = {}
        #: What each of these names has ever meant here: what the person allowed is not to become another tool.
        self._meant: dict[str, tuple[str, str]] = {}
        #: What each server listed last.
        self._listed: dict[str, list[dict[str, Any]]] = {}
        #: Ids of servers in the session.
        self._told: dict[str, str] = {}
        self._listing: dict[str, asyncio.Task[None]] = {}
        #: Why servers cannot be asked now, and what of it was said: nothing is printed while a person types.
        self._wrong: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._patience = PATIENCE

    def start(self) -> None:
        """Begin all, without waiting for one."""
        for server in self._servers:
            self._look(server)

    async def stop(self) -> None:
        """End all at once."""
        for task in self._listing.values():
            task.cancel()
        await asyncio.gather(*(server.stop() for server in self._servers))

    def has(self, tool: str) -> bool:
        """Tell whether this chat runs the server of a tool."""
        return tool in self._tools

    def explain(self, tool: str) -> tuple[str, str]:
        """Return which server a tool is of, and what it is called there; the tool is one that this chat has."""
        server, name = self._tools[tool]
        return server.name, name

    async def tell(self, api: Api, session_id: str, client: str) -> None:
        """Tell a session the tools as they are now, to be run by ``client``; what cannot be told is said, once.

        Raises:
            ClientError: the server was lost.
        """
        for server in self._servers:
            self._look(server)
        await asyncio.wait(self._listing.values(), timeout=self._patience)
        self._patience = MOMENT
        await asyncio.gather(*(self._tell(api, session_id, client, server) for server in self._servers))

    async def leave(self, api: Api, session_id: str) -> None:
        """Take the servers out of the session again, since nobody runs them any more."""
        await asyncio.gather(*(api.remove_mcp_server(session_id, server_id) for server_id in self._told.values()))

    async def call(self, tool: str, arguments: Any) -> str:
        """Call a tool and return its text.

        Raises:
            ToolError: it failed, or its server did.
        """
        found = self._tools.get(tool)
        if found is None:
            raise ToolError(f"{tool}: this chat runs no MCP server with such a tool")
        if not isinstance(arguments, dict):
            raise ToolError("arguments: must be an object")
        server, name = found
        answer = await server.call(name, arguments)
        if answer.is_error:
            raise ToolError(answer.text or "The tool failed.")
        return answer.text

    def _look(self, server: Server) -> None:
        task = self._listing.get(server.name)
        if task is None or task.done():
            self._listing[server.name] = asyncio.create_task(self._list(server))

    async def _list(self, server: Server) -> None:
        """List the tools of a server; one that gives no answer keeps those that it had."""
        try:
            self._listed[server.name] = await server.tools()
            self._wrong.pop(server.name, None)
        except ToolError as error:
            self._wrong[server.name] = str(error)

    async def _tell(self, api: Api, session_id: str, client: str, server: Server) -> None:
        problem = self._wrong.get(server.name)
        tools = self._listed.get(server.name)
        if tools is None:
            self._say(server, problem or f"The MCP server {server.name} is still starting; its tools come later.")
            return
        try:
            body = {"name": server.name, "transport": "client", "client_id": client, "tools": tools}
            known = await api.tell_mcp_server(session_id, body)
        except ApiError as error:
            self._forget(server)
            self._say(server, f"The tools of the MCP server {server.name} are not there for the agents: {error}")
            return
        self._say(server, problem)
        self._forget(server)
        self._told[server.name] = known.id
        listed = {tool["name"] for tool in tools}
        for tool in known.tools:
            meant = (server.name, tool.name)
            fits = tool.name in listed and tool.tool_name.startswith(f"mcp__{server.name}__")
            if fits and self._meant.setdefault(tool.tool_name, meant) == meant:
                self._tools[tool.tool_name] = (server, tool.name)

    def _forget(self, server: Server) -> None:
        self._told.pop(server.name, None)
        self._tools = {name: found for name, found in self._tools.items() if found[0] is not server}

    def _say(self, server: Server, problem: str | None) -> None:
        """Say what is wrong with a server, unless that was the last thing said of it."""
        if problem is None:
            self._said.pop(server.name, None)
        elif self._said.get(server.name) != problem:
            self._said[server.name] = problem
            self._console.note(problem, "yellow")
