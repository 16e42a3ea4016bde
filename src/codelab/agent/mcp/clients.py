"""MCP servers that clients run where they are: they tell what tools these have, and alone are given the calls of them.

Such a call is a client's, as one of ``execute_command``: it is requested, claimed and answered. What differs is that
one client alone can claim it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.idempotency import write_once
from codelab.agent.mcp.catalogue import encode
from codelab.agent.mcp.tools import ForeignTool, read_tools
from codelab.agent.ownership import require_session
from codelab.agent.policy.file import MCP
from codelab.agent.repository import mcp as rows
from codelab.agent.schemas.mcp import McpServerInfo
from codelab.db import new_id
from codelab.errors import BadRequest, Conflict, Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row

    from codelab.agent.audit import AuditTrail
    from codelab.agent.mcp.catalogue import Catalogue
    from codelab.agent.mcp.queue import CallQueue
    from codelab.agent.schemas.mcp import NewMcpServer
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = (
    "MAX_SERVERS",
    "ClientServers",
    "look_at_waiting",
    "name_taken",
    "operators_name",
    "require_runner",
    "too_many",
)

#: Servers of a session, whoever runs them.
MAX_SERVERS = 8


def too_many() -> Conflict:
    """Say that a session can have no more servers."""
    return Conflict(f"This session has {MAX_SERVERS} MCP servers already.", code="too_many_mcp_servers")


def name_taken(row: Row[Any]) -> Conflict:
    """Say that a session has a server of a name, and which client runs it."""
    detail = "name: this session has an MCP server of that name"
    return Conflict(detail, code="mcp_name_taken", field="name", extra={"client_id": row.client_id})


def require_runner(call: Row[Any], tool: ForeignTool | None, client: str | None) -> None:
    """Let a call of an MCP tool go to the client that runs its server, or that has the call since it did.

    Raises:
        Conflict: codelab makes it itself, another client runs the server, or the tool is not there any more.
    """
    if client is not None and call.claimed_by == client:
        return
    if tool is None:
        raise Conflict("The MCP server of this tool is not there any more.", code="tool_gone", field="call_id")
    if tool.client_id is None:
        raise Conflict("The server itself makes this call.", code="made_by_server", field="call_id")
    if tool.client_id != client:
        runs = {"client_id": tool.client_id}
        detail = "Another client runs the MCP server of this tool."
        raise Conflict(detail, code="other_clients_tool", field="call_id", extra=runs)


def operators_name() -> Conflict:
    """Say that the operator has a server of a name, for all sessions."""
    return Conflict("name: the operator has an MCP server of that name", code="mcp_name_taken", field="name")


async def look_at_waiting(tx: Transaction, queue: CallQueue, session_db_id: int) -> None:
    """Let the calls end that nobody can claim any more since their tools are gone: who takes them looks at that."""
    for call_db_id in await rows.list_waiting_of(tx.session, session_db_id, MCP):
        tx.after_commit(partial(queue.put, call_db_id))


class ClientServers:
    """Take what clients tell of the servers that they run, where the operator lets them (``allowed``).

    ``is_attached`` tells whether a client follows a session now.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditTrail,
        catalogue: Catalogue,
        queue: CallQueue,
        is_attached: Callable[[int, str], bool],
        *,
        allowed: bool,
    ) -> None:
        self._database = database
        self._audit = audit
        self._pool = catalogue.pool
        self._queue = queue
        self._is_attached = is_attached
        self._allowed = allowed

    async def tell(
        self, principal: Principal, session_id: str, new: NewMcpServer, once: Once | None = None
    ) -> McpServerInfo:
        """Give a session the tools of a client's server; told again, they take the place of what was told before.

        A server whose client is away can be told by another one, which runs it from then on.

        Raises:
            Forbidden: the operator does not let clients bring servers.
            BadRequest: a member is missing, or is not for such a server.
            NotFound: no such session of this person.
            Conflict: there is another one of that name, or there are too many.
        """
        if not self._allowed:
            raise Forbidden(
                "Clients may not bring MCP servers here (AGENT_RUNTIME__MCP_CLIENT_SERVERS).",
                code="mcp_client_servers_off",
            )
        for name, value in (("url", new.url), ("headers", new.headers)):
            if value is not None:
                raise BadRequest(f"{name}: is not for a server that a client runs", field=name)
        if new.client_id is None or new.tools is None:
            name = "tools" if new.client_id else "client_id"
            raise BadRequest(f"{name}: is required for a server that a client runs", field=name)
        client, listed = new.client_id, new.tools

        async def unit(tx: Transaction) -> McpServerInfo:
            session = await require_session(tx.session, principal, session_id)
            if self._pool is not None and new.name in self._pool.names:
                raise operators_name()
            others = await rows.list_servers(tx.session, session.db_id)
            old = next((row for row in others if row.name == new.name), None)
            if old is None and len(others) >= MAX_SERVERS:
                raise too_many()
            server_id = new_id() if old is None else old.id
            tools = read_tools(new.name, server_id, listed)
            if old is None:
                await rows.add(
                    tx.session,
                    id=server_id,
                    session_db_id=session.db_id,
                    name=new.name,
                    url="",
                    client_id=client,
                    headers=None,
                    tools=encode(tools),
                    error=None,
                )
                self._audit.record(
                    tx,
                    "mcp_server_added",
                    owner_id=principal.subject,
                    session_id=session_id,
                    actor_id=principal.subject,
                    client_id=principal.client_id,
                    mcp_server_id=server_id,
                    name=new.name,
                    run_by=client,
                )
            else:
                if old.client_id != client and self._is_held(old):
                    raise name_taken(old)
                await rows.set_fields(tx.session, old.db_id, client_id=client, tools=encode(tools))
                await look_at_waiting(tx, self._queue, session.db_id)
            row = await rows.find_server(tx.session, session.db_id, server_id)
            assert row is not None
            return McpServerInfo.from_row(row)

        route, values = ("mcp-servers", session_id), msgspec.to_builtins(new)
        return await write_once(self._database, once, principal.subject, route, values, unit, McpServerInfo)

    def _is_held(self, row: Row[Any]) -> bool:
        """Tell whether a server is one that codelab reaches, or its client is there."""
        return row.client_id is None or self._is_attached(row.session_db_id, row.client_id)
