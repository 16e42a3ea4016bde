"""The route of WebSocket tickets."""

from __future__ import annotations

import msgspec
from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from codelab.agent.entry import TICKET_SECONDS, Tickets
from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas.sessions import SessionId
from codelab.text import Input

__all__ = ("HANDLERS",)


class TicketRequest(Input):
    """Ask for a ticket to one session."""

    session_id: SessionId


class Ticket(msgspec.Struct):
    """A ticket for one socket of one session, which must be opened within so many seconds."""

    ticket: str
    session_id: str
    expires_in: int


@post("/ws-tickets", status_code=201, opt={"scope": "api:read"}, summary="A one-time ticket for a WebSocket")
async def issue_ticket(
    request: AgentRequest, data: JSONBody[TicketRequest], tickets: NamedDependency[Tickets]
) -> Response[Ticket]:
    """Make a ticket, which the socket's address carries as ``?ticket=``."""
    made = Ticket(tickets.issue(request.principal, data.session_id), data.session_id, TICKET_SECONDS)
    return Response(made, headers={"Cache-Control": "no-store"})


HANDLERS = (issue_ticket,)
