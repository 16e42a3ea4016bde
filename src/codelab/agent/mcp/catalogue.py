"""Which tools of MCP servers a session has: as they were listed last, so that the gate asks nobody."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.http import Place
from codelab.agent.mcp.listings import Listings
from codelab.agent.mcp.remote import McpFailed, list_tools
from codelab.agent.mcp.tools import ForeignTool, read_tools
from codelab.agent.repository import mcp as rows
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.mcp.remote import Way
    from codelab.agent.mcp.sealing import Sealer
    from codelab.agent.mcp.stdio import Pool
    from codelab.db import Database, Transaction

__all__ = ("MAX_ALL_TOOLS", "Catalogue", "encode")

logger = logging.getLogger(__name__)

#: Tools of all servers of a session together; models take 128, and codelab has some of its own.
MAX_ALL_TOOLS = 96
NONE: Mapping[str, ForeignTool] = {}


class Catalogue:
    """Know the tools of sessions, and see to it that what is known is not old.

    Every session has those of ``pool``, the operator's servers, if there are any. It has some of its own where there
    are ``allowed`` hosts, and some that clients run where ``clients`` may.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        allowed: tuple[str, ...],
        pool: Pool | None = None,
        *,
        clients: bool,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self.allowed = allowed
        self.pool = pool
        self._clients = clients
        self.listings = Listings()

    async def of_session(self, db: AsyncSession, session_db_id: int) -> Mapping[str, ForeignTool]:
        """Return the tools of a session by name."""
        tools = {} if self.pool is None else self.pool.tools()
        for row in await self._rows(db, session_db_id):
            tools |= {tool.name: tool for tool in read_row(row)}
        return dict(list(tools.items())[:MAX_ALL_TOOLS]) if tools else NONE

    async def way(self, db: AsyncSession, session_db_id: int, tool: ForeignTool) -> Way | None:
        """Say how the server of a tool is asked; None where it is gone, or its headers cannot be read any more."""
        if self.pool is not None and (child := self.pool.children.get(tool.server_id)) is not None:
            return child
        row = await rows.find_server(db, session_db_id, tool.server_id)
        return None if row is None else self._place(row)

    def is_known(self, tool_name: str) -> bool:
        """Tell whether it is known if there is such a tool: a server of the operator may still be beginning."""
        child = None if self.pool is None else self.pool.find(tool_name)
        return child is None or child.settled.is_set()

    async def settle(self) -> None:
        """Wait a moment, soon after the start, for servers of the operator that are beginning."""
        if self.pool is not None:
            await self.pool.settle()

    async def wait_for_tool(self, tool_name: str) -> None:
        """Wait until that is known."""
        if self.pool is not None and (child := self.pool.find(tool_name)) is not None:
            await child.settled.wait()

    async def refresh(self, session_db_id: int) -> None:
        """List the tools of a session's servers anew where that was not done lately; called before a model call.

        A server that gives no answer keeps the tools that it had: a call of one says then what is wrong.
        """
        await self.settle()
        asks = {} if self.pool is None else self.pool.asks()
        if self.allowed:
            async with self._database.peek() as db:
                asks |= {
                    row.id: partial(self._list, row)
                    for row in await self._rows(db, session_db_id)
                    if row.client_id is None
                }
        if asks:
            await self.listings.bring_up(asks)

    async def _rows(self, db: AsyncSession, session_db_id: int) -> list[Row[Any]]:
        """Find the servers that a session may use: of a name that the operator took later, the operator's counts."""
        if not (self.allowed or self._clients):
            return []
        taken = () if self.pool is None else self.pool.names
        return [
            row
            for row in await rows.list_servers(db, session_db_id)
            if row.name not in taken and (self.allowed if row.client_id is None else self._clients)
        ]

    def _place(self, row: Row[Any]) -> Place | None:
        headers: dict[str, str] | None = {}
        if row.headers is not None:
            headers = self._sealer.open(row.id, row.url, row.headers)
        return None if headers is None else Place(row.name, row.url, headers, self.allowed)

    async def _list(self, row: Row[Any]) -> bool:
        tools, error = row.tools, None
        try:
            if (place := self._place(row)) is None:
                raise McpFailed("The headers of this server cannot be decrypted with the key file; add it again.")
            tools = encode(read_tools(row.name, row.id, await list_tools(place)))
        except McpFailed as failed:
            error = str(failed)
            logger.warning("an MCP server of a session does not tell its tools", extra={"mcp_server_id": row.id})
        if (tools, error) != (row.tools, row.error):

            async def unit(tx: Transaction) -> None:
                await rows.set_fields(tx.session, row.db_id, tools=tools, error=error)

            await self._database.write(unit)
        return error is None


def read_row(row: Row[Any]) -> list[ForeignTool]:
    """Read the tools of a server."""
    tools = msgspec.json.decode(row.tools, type=list[ForeignTool])
    if row.client_id is None:
        return tools
    return [msgspec.structs.replace(tool, client_id=row.client_id) for tool in tools]


def encode(tools: list[ForeignTool]) -> str:
    """Write tools as they are kept."""
    return canonical_json(msgspec.to_builtins(tools))
