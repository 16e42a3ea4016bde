"""The routes of the reference system that ours do not have: its sockets, and the paths of its runtime."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, WebSocket, get, post, websocket
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from codelab.agent.commands import Commands
from codelab.agent.entry import ENTRY, LEGACY
from codelab.agent.readers import Following
from codelab.agent.reference.face import Outcome, ReferenceFace
from codelab.agent.reference.frames import UserMessage, read_message
from codelab.agent.reference.socket import ReferenceSocket
from codelab.agent.reference.stream import AnswerStream
from codelab.agent.routes import agents, metrics, turns
from codelab.agent.routes import sessions as session_routes
from codelab.agent.routes.common import AgentRequest, Limit
from codelab.agent.schemas import HistoryMessage, SessionList
from codelab.agent.sessions import SessionService
from codelab.agent.socket import accept
from codelab.db import new_id
from codelab.errors import BadRequest, CodelabError
from codelab.identity import Principal
from codelab.openapi import tells_events
from codelab.web import OneRouter, RequireScopes

__all__ = ("routers",)

Tokens = Annotated[str | None, QueryParameter(name="stream", description="'tokens': text as it is said, too.")]
#: Messages that a session is described with at most.
MESSAGES = 1000


class SessionDescription(msgspec.Struct):
    """A session as the reference's runtime describes it; ``messages`` are the first thousand, where wanted."""

    id: str
    title: str | None
    description: str | None
    message_count: int
    messages: list[HistoryMessage] | None
    last_activity: datetime
    is_active: bool
    created_at: datetime
    duration_seconds: float


class DescribedSession(msgspec.Struct):
    """Wrap the description of a session, as the reference does."""

    session: SessionDescription


def _wants_tokens(stream: str | None) -> bool:
    if stream not in {None, "", "final", "tokens"}:
        raise BadRequest("stream: must be tokens or final", field="stream")
    return stream == "tokens"


@websocket("/ws/{session_id:str}", opt={LEGACY: True})
async def talk(
    socket: WebSocket[Principal, Any, Any],
    session_id: FromPath[str],
    following: NamedDependency[Following],
    commands: NamedDependency[Commands],
    reference: NamedDependency[ReferenceFace],
    stream: Tokens = None,
) -> None:
    """Follow and command a session in the reference's frames; a session that there is not is made."""
    tokens = _wants_tokens(stream)
    session_db_id = await reference.open(socket.user, session_id)
    cursor = await following.log.newest(session_db_id)
    await accept(socket)
    talking = ReferenceSocket(
        socket,
        socket.user,
        session_id,
        commands,
        reference,
        session_db_id,
        client=new_id(),
        send_timeout=following.send_timeout,
        tokens=tokens,
    )
    await talking.serve(following.log, following.readers, session_db_id, cursor)


@post(
    "/agent/message/stream",
    status_code=200,
    operation_class=tells_events(),
    summary="Send a reference message and follow its answer",
)
async def stream_message(
    request: AgentRequest,
    data: JSONBody[dict[str, Any]],
    following: NamedDependency[Following],
    reference: NamedDependency[ReferenceFace],
    stream: Tokens = None,
) -> Response[Any]:
    """Carry out one message, ``{session_id, message: {…}}`` or flat, and stream what it leads to."""
    tokens = _wants_tokens(stream)
    session_id = data.get("session_id")
    if not isinstance(session_id, str):
        raise BadRequest("session_id: is required", field="session_id")
    message = read_message(data["message"] if data.get("message") is not None else data)
    agent = message.agent_type if isinstance(message, UserMessage) else None
    session_db_id = await reference.open(request.principal, session_id, agent)
    after = await following.log.newest(session_db_id)
    outcome: Outcome | str
    try:
        outcome = await reference.carry_out(message, request.principal, session_id)
    except CodelabError as error:
        outcome = error.detail
    return AnswerStream(
        following.log,
        following.readers,
        request.principal,
        session_db_id,
        after,
        outcome,
        client=new_id(),
        send_timeout=following.send_timeout,
        tokens=tokens,
    )


@get("/sessions/{session_id:str}", summary="One session, as the reference's runtime describes it")
async def describe_session(
    request: AgentRequest,
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    include_messages: Annotated[bool, QueryParameter()] = False,  # noqa: FBT002 - a query parameter
) -> DescribedSession:
    """Return a session, with its messages where they are wanted."""
    info = await sessions.get(request.principal, session_id)
    messages = None
    if include_messages:
        messages = (await sessions.history(request.principal, session_id, limit=MESSAGES, cursor=None)).messages
    age = (datetime.now(UTC) - info.created_at).total_seconds()
    return DescribedSession(
        SessionDescription(
            id=info.id,
            title=info.title,
            description=info.description,
            message_count=info.message_count,
            messages=messages,
            last_activity=info.last_activity,
            is_active=info.is_active,
            created_at=info.created_at,
            duration_seconds=age,
        )
    )


@get("/sessions", summary="Your sessions, as the reference's runtime pages them")
async def list_sessions(
    request: AgentRequest,
    sessions: NamedDependency[SessionService],
    limit: Limit = 100,
    offset: Annotated[int, QueryParameter(ge=0, le=10_000, description="How many to leave out.")] = 0,
) -> SessionList:
    """List sessions, the latest activity first."""
    listed = await sessions.list(request.principal, limit=offset + limit, cursor=None, text=None)
    return SessionList(listed.sessions[offset:], listed.total, limit, offset, listed.next_cursor)


#: Under no prefix, as the reference's runtime has them; most are the very handlers of our own routes.
_RUNTIME = (
    stream_message,
    describe_session,
    list_sessions,
    session_routes.create_session,
    session_routes.change_session,
    session_routes.delete_session,
    session_routes.get_history,
    turns.list_pending_approvals,
    agents.list_agents,
    agents.get_context,
    agents.switch_agent,
    *metrics.HANDLERS,
    talk,
)


def routers(services: dict[str, Provide]) -> list[OneRouter]:
    """Gather the reference's routes: its gateway's under ``/api/v1``, and its runtime's.

    ``services`` are what handlers ask for by name.
    """
    return [
        OneRouter(
            prefix,
            route_handlers=list(handlers),
            dependencies=services,
            middleware=[RequireScopes()],
            opt={ENTRY: True},
            request_class=AgentRequest,
            tags=["reference"],
        )
        for prefix, handlers in (("/api/v1", (talk,)), ("/", _RUNTIME))
    ]
