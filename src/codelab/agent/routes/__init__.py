"""The routes of module ``agent``, as ``docs/api.md`` describes them: a file for each noun. Thin: services decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.entry import ENTRY
from codelab.agent.routes import (
    agents,
    approvals,
    events,
    grants,
    mcp,
    metrics,
    policy,
    sessions,
    socket,
    tickets,
    turns,
)
from codelab.agent.routes.common import AgentRequest
from codelab.web import OneRouter, RequireScopes

if TYPE_CHECKING:
    from litestar.di import Provide

__all__ = ("router",)


def router(services: dict[str, Provide], *, max_message_body: int) -> OneRouter:
    """Gather the routes under ``/api/v1``; the body of a message may have more bytes than that of any other.

    ``services`` are what handlers ask for by name.
    """
    return OneRouter(
        "/api/v1",
        route_handlers=[
            *agents.HANDLERS,
            *sessions.HANDLERS,
            *turns.HANDLERS,
            OneRouter("/", route_handlers=turns.MESSAGE_HANDLERS, request_max_body_size=max_message_body),
            *approvals.HANDLERS,
            *policy.HANDLERS,
            *grants.HANDLERS,
            *mcp.HANDLERS,
            *events.HANDLERS,
            *socket.HANDLERS,
            *tickets.HANDLERS,
            *metrics.HANDLERS,
        ],
        dependencies=services,
        middleware=[RequireScopes()],
        opt={ENTRY: True},
        request_class=AgentRequest,
        tags=["agent"],
    )
