"""Routes of the event log: one log, as Server-Sent Events or in pages of JSON."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.datastructures.headers import Accept
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, QueryParameter

from codelab.agent.log import EventLog
from codelab.agent.readers import Readers, read_client
from codelab.agent.routes.common import Client, Limit
from codelab.agent.schemas import EventPage
from codelab.agent.sessions import SessionService
from codelab.agent.stream import MEDIA_TYPE, EventStream, read_cursor
from codelab.errors import BadRequest
from codelab.identity import Principal

__all__ = ("HANDLERS",)

JSON = "application/json"
FORMATS = {"sse": MEDIA_TYPE, "json": JSON}


@get("/sessions/{session_id:str}/events", summary="Follow the event log, or read a page of it")
async def follow_events(
    request: Request[Principal, Any, Any],
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    sessions: NamedDependency[SessionService],
    log: NamedDependency[EventLog],
    readers: NamedDependency[Readers],
    send_timeout: NamedDependency[float],
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
    session_db_id = await sessions.key(principal, session_id)
    if cursor is None:  # fixed before the answer begins: what a client does once it has the headers is new
        cursor = await log.newest(session_db_id)
    if chosen == JSON:
        events, latest = await log.page(session_db_id, cursor, limit)
        return Response(EventPage.of(events, after=cursor, latest=latest))
    return EventStream(log, readers, principal, session_db_id, cursor, client=name, send_timeout=send_timeout)


def _preferred(request: Request[Principal, Any, Any]) -> str:
    accept = request.headers.get("accept")
    return (Accept(accept).best_match([MEDIA_TYPE, JSON]) if accept else None) or MEDIA_TYPE


HANDLERS = (follow_events,)
