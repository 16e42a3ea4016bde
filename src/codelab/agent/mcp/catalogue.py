"""Which tools of MCP servers a session has: as they were listed last, so that the gate asks nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.remote import McpFailed, Place, list_tools
from codelab.agent.mcp.tools import ForeignTool, read_tools
from codelab.agent.repository import mcp as rows
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.mcp.sealing import Sealer
    from codelab.db import Database, Transaction

__all__ = ("MAX_ALL_TOOLS", "Catalogue")

logger = logging.getLogger(__name__)

#: Seconds for which a list of tools is taken for true.
REFRESH = 15.0
#: Tools of all servers of a session together; models take 128, and codelab has some of its own.
MAX_ALL_TOOLS = 96
NONE: Mapping[str, ForeignTool] = {}


class Catalogue:
    """Know the tools of sessions, and see to it that what is known is not old.

    Without ``allowed`` hosts it knows none over HTTP, and none that clients run unless ``clients`` may.
    """

    def __init__(self, database: Database, sealer: Sealer, allowed: tuple[str, ...], *, clients: bool) -> None:
        self._database = database
        self._sealer = sealer
        self.allowed = allowed
        self._clients = clients
        #: When (monotonic seconds) a server was asked last by this process.
        self._asked: dict[int, float] = {}

    async def of_session(self, db: AsyncSession, session_db_id: int) -> Mapping[str, ForeignTool]:
        """Return the tools of a session by name."""
        if not (self.allowed or self._clients):
            return NONE
        tools: dict[str, ForeignTool] = {}
        for row in await rows.list_servers(db, session_db_id):
            if self._clients if row.client_id is not None else self.allowed:
                tools |= {tool.name: tool for tool in read_row(row)}
        return dict(list(tools.items())[:MAX_ALL_TOOLS])

    def place(self, row: Row[Any]) -> Place | None:
        """Say how a server is asked; None where its headers cannot be read any more."""
        headers: dict[str, str] | None = {}
        if row.headers is not None:
            headers = self._sealer.open(row.id, row.url, row.headers)
        return None if headers is None else Place(row.name, row.url, headers, self.allowed)

    async def refresh(self, session_db_id: int) -> None:
        """List the tools of a session's servers anew where that was not done lately; called before a model call.

        A server that gives no answer keeps the tools that it had: a call of one says then what is wrong.
        """
        if not self.allowed:
            return
        async with self._database.peek() as db:
            found = [row for row in await rows.list_servers(db, session_db_id) if row.client_id is None]
        at = time.monotonic()
        due = [row for row in found if at - self._asked.get(row.db_id, -REFRESH) >= REFRESH]
        if due:
            await asyncio.gather(*(self._refresh(row) for row in due))

    async def _refresh(self, row: Row[Any]) -> None:
        self._asked[row.db_id] = time.monotonic()
        tools, error = row.tools, None
        try:
            if (place := self.place(row)) is None:
                raise McpFailed("The headers of this server cannot be decrypted with the key file; add it again.")
            tools = encode(read_tools(row.name, row.id, await list_tools(place)))
        except McpFailed as failed:
            error = str(failed)
            logger.warning("an MCP server of a session does not tell its tools", extra={"mcp_server_id": row.id})
        if (tools, error) != (row.tools, row.error):

            async def unit(tx: Transaction) -> None:
                await rows.set_fields(tx.session, row.db_id, tools=tools, error=error)

            await self._database.write(unit)


def read_row(row: Row[Any]) -> list[ForeignTool]:
    """Read the tools of a server."""
    tools = msgspec.json.decode(row.tools, type=list[ForeignTool])
    if row.client_id is None:
        return tools
    return [msgspec.structs.replace(tool, client_id=row.client_id) for tool in tools]


def encode(tools: list[ForeignTool]) -> str:
    """Write tools as they are kept."""
    return canonical_json(msgspec.to_builtins(tools))
