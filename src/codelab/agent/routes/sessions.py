"""Routes of sessions: make, find, change, delete, and read the history."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from codelab.agent.entry import MADE
from codelab.agent.routes.common import AgentRequest, Cursor, Limit
from codelab.agent.schemas import ContextView, History, NewSession, SessionChange, SessionInfo, SessionList
from codelab.agent.sessions import SessionService
from codelab.agent.turns import ContextService
from codelab.repeating import Repeatable

__all__ = ("HANDLERS",)

#: What a person sent may be made to look like anything: nothing of it is to be run or shown in place.
INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


@post("/sessions", operation_class=Repeatable, summary="Make a session")
async def create_session(
    request: AgentRequest,
    sessions: NamedDependency[SessionService],
    data: JSONBody[NewSession | None] = None,
) -> SessionInfo:
    """Make a session."""
    made = await sessions.create(request.principal, data or NewSession(), request.once)
    request.scope["state"][MADE] = made.id
    return made


@get("/sessions", summary="List your sessions")
async def list_sessions(
    request: AgentRequest,
    sessions: NamedDependency[SessionService],
    limit: Limit = 100,
    cursor: Cursor = None,
    q: Annotated[str | None, QueryParameter(max_length=500, description="Text in the title.")] = None,
) -> SessionList:
    """List sessions, the latest activity first."""
    return await sessions.list(request.principal, limit=limit, cursor=cursor, text=q)


@get("/sessions/{session_id:str}", summary="One session")
async def get_session(
    request: AgentRequest,
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
) -> SessionInfo:
    """Return a session."""
    return await sessions.get(request.principal, session_id)


@patch("/sessions/{session_id:str}", summary="Change a session")
async def change_session(
    request: AgentRequest,
    session_id: FromPath[str],
    data: JSONBody[SessionChange],
    sessions: NamedDependency[SessionService],
) -> SessionInfo:
    """Change the title, the model or the metadata of a session."""
    return await sessions.change(request.principal, session_id, data)


@delete("/sessions/{session_id:str}", summary="Delete a session")
async def delete_session(
    request: AgentRequest,
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
) -> None:
    """Delete a session softly."""
    await sessions.delete(request.principal, session_id)


@get("/sessions/{session_id:str}/history", summary="Messages in order")
async def get_history(
    request: AgentRequest,
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> History:
    """Return a page of the history."""
    return await sessions.history(request.principal, session_id, limit=limit, cursor=cursor)


@get(
    "/sessions/{session_id:str}/messages/{message_id:str}/images/{n:str}",
    summary="One image of a message",
    media_type="application/octet-stream",
)
async def get_image(
    request: AgentRequest,
    session_id: FromPath[str],
    message_id: FromPath[str],
    n: FromPath[str],
    sessions: NamedDependency[SessionService],
) -> Response[bytes]:
    """Return the bytes of an image, in a form that no browser takes for a page."""
    media_type, data = await sessions.image(request.principal, session_id, message_id, n)
    name = f"image-{n}.{media_type.removeprefix('image/')}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} | INERT
    return Response(data, media_type=media_type, headers=headers)


@get("/sessions/{session_id:str}/context", summary="What the model sees")
async def get_context(
    session_id: FromPath[str], request: AgentRequest, context: NamedDependency[ContextService]
) -> ContextView:
    """Return what the model would be sent now."""
    return await context.get(request.principal, session_id)


HANDLERS = (
    create_session,
    list_sessions,
    get_session,
    change_session,
    delete_session,
    get_history,
    get_image,
    get_context,
)
