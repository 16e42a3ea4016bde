"""What a session holds: its messages and its event log."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from codelab.agent.schemas.agents import Switch
from codelab.agent.schemas.images import ImageInfo
from codelab.agent.schemas.usage import CallUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.repository.events import Event

__all__ = ("EventPage", "History", "HistoryMessage", "LoggedEvent")


class HistoryMessage(msgspec.Struct, omit_defaults=True):
    """One message of a history, in the reference's shape with what it lacked."""

    role: str
    content: str | None
    id: str
    created_at: datetime
    turn_id: str
    status: str
    agent: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    delivery: str | None = None
    reasoning: str | None = None
    usage: CallUsage | None = None
    images: list[ImageInfo] | None = None


class History(msgspec.Struct):
    """A page of a session's messages in order, and its hand-overs."""

    session_id: str
    messages: list[HistoryMessage]
    message_count: int
    last_activity: datetime
    current_agent: str
    agent_history: list[Switch]
    next_cursor: str | None


class LoggedEvent(msgspec.Struct):
    """One event of a session's log; ``data`` is the JSON that is stored."""

    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class EventPage(msgspec.Struct):
    """A page of the log; ``next_after`` is the cursor of the next one, ``latest`` the newest ``seq``."""

    events: list[LoggedEvent]
    next_after: int
    latest: int

    @classmethod
    def of(cls, events: Sequence[Event], *, after: int, latest: int) -> Self:
        """Make it from the events after a cursor."""
        listed = [LoggedEvent(e.seq, e.type, msgspec.json.decode(e.data), e.created_at) for e in events]
        return cls(listed, events[-1].seq if events else after, latest)
