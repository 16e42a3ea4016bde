"""The MCP servers of a session: add one, list them, take one away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.idempotency import find_kept, write_once
from codelab.agent.mcp.catalogue import encode
from codelab.agent.mcp.places import Place, RefusedUrl, read_place
from codelab.agent.mcp.remote import McpFailed, list_tools
from codelab.agent.mcp.tools import read_tools
from codelab.agent.ownership import PUBLIC_ID, require_session
from codelab.agent.repository import mcp as rows
from codelab.agent.schemas.mcp import McpServerInfo, McpServerList
from codelab.db import new_id
from codelab.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.audit import AuditTrail, Event
    from codelab.agent.mcp.catalogue import Catalogue
    from codelab.agent.mcp.sealing import Sealer
    from codelab.agent.schemas.mcp import NewMcpServer
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("McpService",)

MAX_SERVERS = 8


class McpService:
    """Change which servers a session has."""

    def __init__(self, database: Database, audit: AuditTrail, catalogue: Catalogue, sealer: Sealer) -> None:
        self._database = database
        self._audit = audit
        self._catalogue = catalogue
        self._sealer = sealer
        self._pool = catalogue.pool

    async def add(
        self, principal: Principal, session_id: str, new: NewMcpServer, once: Once | None = None
    ) -> McpServerInfo:
        """Add a server that answers, with the tools that it offers now.

        Raises:
            BadRequest: its host is not allowed, or it gives no answer.
            NotFound: no such session of this person.
            Conflict: there is one of that name, or there are too many.
        """
        async with self._database.peek() as db:  # nobody else's session makes this server ask around
            session = await require_session(db, principal, session_id)
            others = await rows.list_servers(db, session.db_id)
        route, values = ("mcp-servers", session_id), msgspec.to_builtins(new)
        kept = await find_kept(self._database, once, principal.subject, route, values, McpServerInfo)
        if kept is not None:
            return kept
        if self._pool is not None and new.name in self._pool.names:
            raise _taken("the operator has an MCP server of that name")
        if len(others) >= MAX_SERVERS:
            raise _too_many()
        try:
            read_place(new.url, self._catalogue.allowed)
        except RefusedUrl as error:
            raise BadRequest(f"url: {error}", code="mcp_url_refused", field="url") from None
        server_id, headers = new_id(), new.headers or {}
        try:
            listed = await list_tools(Place(new.name, new.url, headers, self._catalogue.allowed))
        except McpFailed as error:
            raise BadRequest(f"url: {error}", code="mcp_unreachable", field="url") from None
        tools = encode(read_tools(new.name, server_id, listed))
        sealed = self._sealer.seal(server_id, new.url, headers) if headers else None

        async def unit(tx: Transaction) -> McpServerInfo:
            session = await require_session(tx.session, principal, session_id)
            others = await rows.list_servers(tx.session, session.db_id)
            if any(row.name == new.name for row in others):
                raise _taken("this session has an MCP server of that name")
            if len(others) >= MAX_SERVERS:
                raise _too_many()
            await rows.add(
                tx.session,
                id=server_id,
                session_db_id=session.db_id,
                name=new.name,
                url=new.url,
                headers=sealed,
                tools=tools,
                error=None,
            )
            self._record(tx, principal, session_id, "mcp_server_added", server_id, new.name)
            row = await rows.find_server(tx.session, session.db_id, server_id)
            assert row is not None
            return McpServerInfo.from_row(row)

        return await write_once(self._database, once, principal.subject, route, values, unit, McpServerInfo)

    async def list(self, principal: Principal, session_id: str) -> McpServerList:
        """List the servers of a session, with those that the operator gives to all.

        Raises:
            NotFound: no such session of this person.
        """
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            found = await rows.list_servers(db, session.db_id)
        given = [] if self._pool is None else self._pool.children.values()
        return McpServerList(
            [*(McpServerInfo.from_child(child) for child in given), *(self._describe(row) for row in found)]
        )

    async def remove(self, principal: Principal, session_id: str, server_id: str) -> None:
        """Take a server from a session; the next call of its tools is refused.

        Raises:
            NotFound: no such session of this person, or no such server in it.
            Conflict: it is the operator's.
        """

        async def unit(tx: Transaction) -> None:
            session = await require_session(tx.session, principal, session_id)
            if self._pool is not None and server_id in self._pool.children:
                raise Conflict("The operator gives this MCP server to all sessions.", code="operator_mcp_server")
            known = re.fullmatch(PUBLIC_ID, server_id)
            row = await rows.find_server(tx.session, session.db_id, server_id) if known else None
            if row is None:
                raise NotFound("This session has no such MCP server.", code="unknown_mcp_server")
            await rows.remove(tx.session, row.db_id)
            self._record(tx, principal, session_id, "mcp_server_removed", server_id, row.name)

        await self._database.write(unit)

    def _describe(self, row: Row[Any]) -> McpServerInfo:
        info = McpServerInfo.from_row(row)
        if self._pool is not None and row.name in self._pool.names:
            info.tools, info.error = [], "The operator has an MCP server of this name, which counts."
        return info

    def _record(
        self, tx: Transaction, principal: Principal, session_id: str, event: Event, server_id: str, name: str
    ) -> None:
        self._audit.record(
            tx,
            event,
            owner_id=principal.subject,
            session_id=session_id,
            actor_id=principal.subject,
            client_id=principal.client_id,
            mcp_server_id=server_id,
            name=name,
        )


def _taken(problem: str) -> Conflict:
    return Conflict(f"name: {problem}", code="mcp_name_taken", field="name")


def _too_many() -> Conflict:
    return Conflict(f"This session has {MAX_SERVERS} MCP servers already.", code="too_many_mcp_servers")
