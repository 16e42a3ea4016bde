"""The route of the WebSocket: the event log, and all commands."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from codelab.agent.commands import Commands
from codelab.agent.log import EventLog
from codelab.agent.readers import Readers, read_client
from codelab.agent.routes.common import Client
from codelab.agent.sessions import SessionService
from codelab.agent.socket import SessionSocket
from codelab.agent.stream import read_cursor
from codelab.identity import Principal

__all__ = ("HANDLERS",)


@websocket("/sessions/{session_id:str}/stream")
async def talk(
    socket: WebSocket[Principal, Any, Any],
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    commands: NamedDependency[Commands],
    log: NamedDependency[EventLog],
    readers: NamedDependency[Readers],
    send_timeout: NamedDependency[float],
    after: Annotated[str | None, QueryParameter(description="Cursor: a seq, or 'latest'.")] = None,
    client: Client = None,
) -> None:
    """Follow a session and command it; what cannot be followed is refused before the handshake ends."""
    cursor, name = read_cursor(after, None), read_client(client)
    session_db_id = await sessions.key(principal, session_id)
    if cursor is None:
        cursor = await log.newest(session_db_id)
    await socket.accept()
    talking = SessionSocket(socket, principal, session_id, commands, client=name, send_timeout=send_timeout)
    await talking.serve(log, readers, session_db_id, cursor)


HANDLERS = (talk,)
