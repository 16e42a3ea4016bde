"""The REST routes of module ``agent``, as ``docs/api.md`` describes them. Thin: services decide."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from codelab.agent.agents import load_agents
from codelab.agent.log import EventLog
from codelab.agent.schemas import (
    AgentInfo,
    AgentList,
    Approval,
    ApprovalList,
    ContextAnswer,
    Decision,
    History,
    MessageAccepted,
    NewMessage,
    NewSession,
    SessionChange,
    SessionInfo,
    SessionList,
    SwitchRequest,
    ToolResult,
    ToolResultTaken,
    TurnState,
)
from codelab.agent.sessions import SessionService
from codelab.agent.stream import HEADERS, read_cursor, render
from codelab.agent.turns import TurnService
from codelab.identity import Principal, require_scopes

__all__ = ("router",)

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str | None, QueryParameter(description="next_cursor of the page before.")]


async def provide_principal(request: Request[Principal, Any, Any]) -> Principal:
    """Give a handler its caller; the guard has proven that there is one."""
    return request.user


@get("/agents", summary="List the agents")
async def list_agents() -> AgentList:
    """List the agents and their tools."""
    agents = [AgentInfo.from_agent(agent) for agent in load_agents().values()]
    return AgentList(agents=agents, total=len(agents))


@get("/agents/{session_id:str}/current", summary="Which agent a session is with")
async def get_context(
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    include_history: Annotated[bool, QueryParameter()] = False,  # noqa: FBT002 - a query parameter
) -> ContextAnswer:
    """Return the current agent of a session."""
    return ContextAnswer(await sessions.context(principal, session_id, with_history=include_history))


@post("/agents/{session_id:str}/switch", status_code=200, summary="Hand a session to another agent")
async def switch_agent(
    session_id: FromPath[str],
    data: JSONBody[SwitchRequest],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    turns: NamedDependency[TurnService],
) -> ContextAnswer:
    """Switch the current agent of a session."""
    await turns.switch(principal, session_id, data.target_agent, data.reason)
    return ContextAnswer(await sessions.context(principal, session_id, with_history=True))


@post("/sessions", summary="Make a session")
async def create_session(
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    data: JSONBody[NewSession | None] = None,
) -> SessionInfo:
    """Make a session."""
    return await sessions.create(principal, data or NewSession())


@get("/sessions", summary="List your sessions")
async def list_sessions(
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    limit: Limit = 100,
    cursor: Cursor = None,
    q: Annotated[str | None, QueryParameter(max_length=500, description="Text in the title.")] = None,
) -> SessionList:
    """List sessions, the latest activity first."""
    return await sessions.list(principal, limit=limit, cursor=cursor, text=q)


@get("/sessions/{session_id:str}", summary="One session")
async def get_session(
    session_id: FromPath[str], principal: NamedDependency[Principal], sessions: NamedDependency[SessionService]
) -> SessionInfo:
    """Return a session."""
    return await sessions.get(principal, session_id)


@patch("/sessions/{session_id:str}", summary="Change a session")
async def change_session(
    session_id: FromPath[str],
    data: JSONBody[SessionChange],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
) -> SessionInfo:
    """Change the title or the metadata of a session."""
    return await sessions.change(principal, session_id, data)


@delete("/sessions/{session_id:str}", summary="Delete a session")
async def delete_session(
    session_id: FromPath[str], principal: NamedDependency[Principal], sessions: NamedDependency[SessionService]
) -> None:
    """Delete a session softly."""
    await sessions.delete(principal, session_id)


@post("/sessions/{session_id:str}/messages", status_code=202, summary="Send a message")
async def post_message(
    session_id: FromPath[str],
    data: JSONBody[NewMessage],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
) -> MessageAccepted:
    """Take a user's message."""
    return await turns.post_message(principal, session_id, data.content)


@post("/sessions/{session_id:str}/tool-results", status_code=200, summary="Answer a tool call")
async def post_tool_result(
    session_id: FromPath[str],
    data: JSONBody[ToolResult],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
) -> ToolResultTaken:
    """Take the client's result of a tool call."""
    return await turns.take_result(principal, session_id, data.call_id, data.result, data.error)


@get("/sessions/{session_id:str}/pending-approvals", summary="What waits for a person")
async def list_pending_approvals(
    session_id: FromPath[str], principal: NamedDependency[Principal], turns: NamedDependency[TurnService]
) -> ApprovalList:
    """List the pending approvals of a session."""
    pending = await turns.list_pending(principal, session_id)
    return ApprovalList(session_id=session_id, pending_approvals=pending, count=len(pending))


@post(
    "/sessions/{session_id:str}/approvals/{approval_id:str}",
    status_code=200,
    opt={"scope": "approvals:decide"},
    summary="Decide an approval",
)
async def decide_approval(
    session_id: FromPath[str],
    approval_id: FromPath[str],
    data: JSONBody[Decision],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
) -> Approval:
    """Take a person's decision."""
    return await turns.decide(principal, session_id, approval_id, data.decision, data.modified_arguments, data.feedback)


@post("/sessions/{session_id:str}/cancel", status_code=200, summary="Stop the active turn")
async def cancel_turn(
    session_id: FromPath[str], principal: NamedDependency[Principal], turns: NamedDependency[TurnService]
) -> TurnState:
    """Cancel the active turn."""
    return await turns.cancel(principal, session_id)


@get("/sessions/{session_id:str}/history", summary="Messages in order")
async def get_history(
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    limit: Limit = 1000,
    cursor: Cursor = None,
) -> History:
    """Return a page of the history."""
    return await sessions.history(principal, session_id, limit=limit, cursor=cursor)


@get("/sessions/{session_id:str}/events", summary="Follow the event log")
async def follow_events(
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    log: NamedDependency[EventLog],
    after: Annotated[str | None, QueryParameter(description="Cursor: a seq, or 'latest'.")] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Stream:
    """Stream the events of a session."""
    cursor = read_cursor(after, last_event_id)
    session_db_id = await sessions.key(principal, session_id)
    if cursor is None:  # fixed before the answer begins: what a client does once it has the headers is new
        cursor = await log.newest(session_db_id)
    return Stream(render(log, session_db_id, cursor), media_type="text/event-stream", headers=HEADERS)


def router() -> Router:
    """Gather the routes under ``/api/v1``."""
    return Router(
        "/api/v1",
        route_handlers=[
            list_agents,
            get_context,
            switch_agent,
            create_session,
            list_sessions,
            get_session,
            change_session,
            delete_session,
            post_message,
            post_tool_result,
            list_pending_approvals,
            decide_approval,
            cancel_turn,
            get_history,
            follow_events,
        ],
        guards=[require_scopes],
        dependencies={"principal": provide_principal},
        tags=["agent"],
    )
