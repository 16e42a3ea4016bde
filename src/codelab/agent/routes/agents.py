"""Routes of agents and models: which there are, and which agent a session is with."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas import AgentList, ContextAnswer, ModelList, SwitchRequest
from codelab.agent.sessions import SessionService
from codelab.agent.turns import TurnService
from codelab.repeating import Repeatable

__all__ = ("HANDLERS",)


@get("/agents", summary="List the agents")
async def list_agents(agents: NamedDependency[AgentList]) -> AgentList:
    """List the agents and their tools."""
    return agents


@get("/agents/{session_id:str}/current", summary="Which agent a session is with")
async def get_context(
    request: AgentRequest,
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    include_history: Annotated[bool, QueryParameter()] = False,  # noqa: FBT002 - a query parameter
) -> ContextAnswer:
    """Return the current agent of a session."""
    return ContextAnswer(await sessions.context(request.principal, session_id, with_history=include_history))


@post(
    "/agents/{session_id:str}/switch",
    status_code=200,
    operation_class=Repeatable,
    summary="Hand a session to another agent",
)
async def switch_agent(
    request: AgentRequest,
    session_id: FromPath[str],
    data: JSONBody[SwitchRequest],
    turns: NamedDependency[TurnService],
) -> ContextAnswer:
    """Switch the current agent of a session."""
    return await turns.switch(request.principal, session_id, data.target_agent, data.reason, request.once)


@get("/models", summary="List the models")
async def list_models(models: NamedDependency[ModelList]) -> ModelList:
    """List the models that sessions may ask for, the default first."""
    return models


HANDLERS = (list_agents, list_models, get_context, switch_agent)
