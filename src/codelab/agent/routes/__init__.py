"""The routes of module ``agent``, as ``docs/api.md`` describes them: a file for each noun. Thin: services decide."""

from __future__ import annotations

from litestar import Router

from codelab.agent.routes import agents, events, grants, policy, sessions, socket, turns
from codelab.agent.routes.common import provide_once, provide_principal
from codelab.identity import require_scopes

__all__ = ("router",)


def router() -> Router:
    """Gather the routes under ``/api/v1``."""
    return Router(
        "/api/v1",
        route_handlers=[
            *agents.HANDLERS,
            *sessions.HANDLERS,
            *turns.HANDLERS,
            *policy.HANDLERS,
            *grants.HANDLERS,
            *events.HANDLERS,
            *socket.HANDLERS,
        ],
        guards=[require_scopes],
        dependencies={"principal": provide_principal, "once": provide_once},
        tags=["agent"],
    )
