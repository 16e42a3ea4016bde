"""Routes of the event log: one log, as Server-Sent Events or in pages of JSON."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from litestar import Response, get
from litestar.datastructures.headers import Accept
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, QueryParameter

from codelab.agent.readers import Following, read_client
from codelab.agent.routes.common import AgentRequest, Client, Limit
from codelab.agent.schemas import EventPage
from codelab.agent.stream import MEDIA_TYPE, EventStream, read_cursor
from codelab.errors import BadRequest
from codelab.openapi import tells_events

__all__ = ("HANDLERS",)

JSON = "application/json"
FORMATS = {"sse": MEDIA_TYPE, "json": JSON}


@get(
    "/sessions/{session_id:str}/events",
    operation_class=tells_events(also_json=True),
    summary="Follow the event log, or read a page of it",
)
async def follow_events(
    request: AgentRequest,
    session_id: FromPath[str],
    following: NamedDependency[Following],
    after: Annotated[str | None, QueryParameter(description="Cursor: a seq, or 'latest'.")] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
    form: Annotated[str | None, QueryParameter(name="format", description="'sse' or 'json'.")] = None,
    limit: Limit = 500,
    client: Client = None,
) -> Response[Any]:
    """Stream the events of a session after a cursor, or return a page of them; ``Accept`` chooses as well."""
    cursor, name = read_cursor(after, last_event_id), read_client(client)
    if form is not None and form not in FORMATS:
        raise BadRequest("format: must be sse or json", field="format")
    chosen = FORMATS[form] if form else _preferred(request)
    session_db_id = await following.sessions.key(request.principal, session_id)
    if cursor is None:  # fixed before the answer begins: what a client does once it has the headers is new
        cursor = await following.log.newest(session_db_id)
    if chosen == JSON:
        events, latest = await following.log.page(session_db_id, cursor, limit)
        return Response(EventPage.of(events, after=cursor, latest=latest))
    return EventStream(
        partial(following.readers.attach, request.principal, session_db_id, name),
        partial(following.log.follow, session_db_id, cursor),
        send_timeout=following.send_timeout,
    )


def _preferred(request: AgentRequest) -> str:
    accept = request.headers.get("accept")
    return (Accept(accept).best_match([MEDIA_TYPE, JSON]) if accept else None) or MEDIA_TYPE


HANDLERS = (follow_events,)
