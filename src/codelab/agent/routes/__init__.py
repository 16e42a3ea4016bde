"""The routes of module ``agent``, as ``docs/api.md`` describes them: a file for each noun. Thin: services decide."""

from __future__ import annotations

from litestar import Router

from codelab.agent.routes import agents, events, sessions, socket, turns
from codelab.agent.routes.common import AgentRequest
from codelab.identity import RequireScopes

__all__ = ("router",)


def router() -> Router:
    """Gather the routes under ``/api/v1``."""
    return Router(
        "/api/v1",
        route_handlers=[
            *agents.HANDLERS,
            *sessions.HANDLERS,
            *turns.HANDLERS,
            *events.HANDLERS,
            *socket.HANDLERS,
        ],
        middleware=[RequireScopes()],
        request_class=AgentRequest,
        tags=["agent"],
    )
