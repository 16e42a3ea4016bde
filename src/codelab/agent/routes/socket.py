"""The route of the WebSocket: the event log, and all commands."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from codelab.agent.commands import Commands
from codelab.agent.readers import Following, read_client
from codelab.agent.routes.common import Client
from codelab.agent.socket import SessionSocket, accept
from codelab.agent.stream import read_cursor
from codelab.identity import Principal

__all__ = ("HANDLERS",)


@websocket("/sessions/{session_id:str}/stream")
async def talk(
    socket: WebSocket[Principal, Any, Any],
    session_id: FromPath[str],
    following: NamedDependency[Following],
    commands: NamedDependency[Commands],
    after: Annotated[str | None, QueryParameter(description="Cursor: a seq, or 'latest'.")] = None,
    client: Client = None,
) -> None:
    """Follow a session and command it; what cannot be followed is refused before the handshake ends."""
    cursor, name = read_cursor(after, None), read_client(client)
    session_db_id = await following.sessions.key(socket.user, session_id)
    if cursor is None:
        cursor = await following.log.newest(session_db_id)
    await accept(socket)
    talking = SessionSocket(socket, socket.user, session_id, commands, client=name, send_timeout=following.send_timeout)
    await talking.serve(following.log, following.readers, session_db_id, cursor)


HANDLERS = (talk,)
