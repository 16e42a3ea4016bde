"""The event log as Server-Sent Events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.agent.log import EventLog
    from codelab.agent.repository.events import Event

__all__ = ("HEADERS", "MEDIA_TYPE", "read_cursor", "render")

#: Seconds between two comments on a silent stream, so that proxies keep it open.
KEEP_ALIVE = 15.0
#: Milliseconds after which a browser reconnects.
RETRY_MS = 1000
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
LATEST = "latest"


def read_cursor(after: str | None, last_event_id: str | None) -> int | None:
    """Read the cursor of a stream; ``after`` wins. None asks for what is new only.

    Raises:
        BadRequest: it is no whole number from 0.
    """
    if after == LATEST:
        return None
    for value, field in ((after, "after"), (last_event_id, "Last-Event-ID")):
        if not value:
            continue
        if not (value.isascii() and value.isdigit() and len(value) < 19):
            raise BadRequest(f"{field}: must be a whole number from 0, or 'latest'", field=field)
        return int(value)
    return 0


async def render(log: EventLog, session_db_id: int, after: int) -> AsyncIterator[bytes]:
    """Write the events of a session after a cursor, for as long as the session and the reader live."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    async for batch in log.follow(session_db_id, after, keep_alive=KEEP_ALIVE):
        yield b"".join(map(_frame, batch)) if batch else b": keep-alive\n\n"


def _frame(event: Event) -> bytes:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.data}\n\n".encode()
