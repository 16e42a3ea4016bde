"""The MCP servers of a session: add one, list them, take one away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.idempotency import find_kept, write_once
from codelab.agent.mcp.catalogue import encode
from codelab.agent.mcp.clients import MAX_SERVERS, look_at_waiting, name_taken, operators_name, too_many
from codelab.agent.mcp.http import Place
from codelab.agent.mcp.places import RefusedUrl, read_place
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
    from codelab.agent.mcp.clients import ClientServers
    from codelab.agent.mcp.queue import CallQueue
    from codelab.agent.mcp.sealing import Sealer
    from codelab.agent.schemas.mcp import NewMcpServer
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("McpService",)


class McpService:
    """Change which servers a session has."""

    def __init__(
        self,
        database: Database,
        audit: AuditTrail,
        catalogue: Catalogue,
        sealer: Sealer,
        queue: CallQueue,
        clients: ClientServers,
    ) -> None:
        self._database = database
        self._audit = audit
        self._catalogue = catalogue
        self._sealer = sealer
        self._queue = queue
        self._clients = clients
        self._pool = catalogue.pool

    async def add(
        self, principal: Principal, session_id: str, new: NewMcpServer, once: Once | None = None
    ) -> McpServerInfo:
        """Add a server that answers, with the tools that it offers now; a client's own with those that it tells.

        Raises:
            BadRequest: its host is not allowed, it gives no answer, or a member is missing.
            Forbidden: the operator does not let clients bring servers.
            NotFound: no such session of this person.
            Conflict: there is one of that name, or there are too many.
        """
        if new.transport == "client":
            return await self._clients.tell(principal, session_id, new, once)
        url = _require_url(new)
        async with self._database.peek() as db:  # nobody else's session makes this server ask around
            session = await require_session(db, principal, session_id)
            others = await rows.list_servers(db, session.db_id)
        route, values = ("mcp-servers", session_id), msgspec.to_builtins(new)
        kept = await find_kept(self._database, once, principal.subject, route, values, McpServerInfo)
        if kept is not None:
            return kept
        if self._pool is not None and new.name in self._pool.names:
            raise operators_name()
        if len(others) >= MAX_SERVERS:
            raise too_many()
        try:
            read_place(url, self._catalogue.allowed)
        except RefusedUrl as error:
            raise BadRequest(f"url: {error}", code="mcp_url_refused", field="url") from None
        server_id, headers = new_id(), new.headers or {}
        try:
            listed = await list_tools(Place(new.name, url, headers, self._catalogue.allowed))
        except McpFailed as error:
            raise BadRequest(f"url: {error}", code="mcp_unreachable", field="url") from None
        tools = encode(read_tools(new.name, server_id, listed))
        sealed = self._sealer.seal(server_id, url, headers) if headers else None

        async def unit(tx: Transaction) -> McpServerInfo:
            session = await require_session(tx.session, principal, session_id)
            others = await rows.list_servers(tx.session, session.db_id)
            if (old := next((row for row in others if row.name == new.name), None)) is not None:
                raise name_taken(old)
            if len(others) >= MAX_SERVERS:
                raise too_many()
            await rows.add(
                tx.session,
                id=server_id,
                session_db_id=session.db_id,
                name=new.name,
                url=url,
                client_id=None,
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
            await look_at_waiting(tx, self._queue, session.db_id)
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


def _require_url(new: NewMcpServer) -> str:
    for name, value in (("client_id", new.client_id), ("tools", new.tools)):
        if value is not None:
            raise BadRequest(f"{name}: is only for a server that a client runs", field=name)
    if new.url is None:
        raise BadRequest("url: is required", field="url")
    return new.url
