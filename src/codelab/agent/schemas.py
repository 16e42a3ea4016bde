"""What goes over the wire: the bodies of requests and answers, as ``docs/api.md`` describes them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from codelab.agent.ownership import PUBLIC_ID
from codelab.errors import BadRequest
from codelab.text import Input, canonical_json, reject_unstorable, scrub, scrub_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.repository.events import Event

__all__ = (
    "ActiveTurn",
    "AgentContextInfo",
    "AgentInfo",
    "AgentList",
    "Approval",
    "ApprovalList",
    "ContextAnswer",
    "Decision",
    "EventPage",
    "History",
    "HistoryMessage",
    "MessageAccepted",
    "NewMessage",
    "NewSession",
    "Queue",
    "QueuedTurn",
    "SessionChange",
    "SessionInfo",
    "SessionList",
    "Switch",
    "SwitchRequest",
    "ToolResult",
    "ToolResultTaken",
    "TurnState",
)

MAX_METADATA_BYTES = 64 * 1024
Title = Annotated[str, Meta(max_length=500)]
SessionId = Annotated[str, Meta(min_length=1, max_length=36, pattern=PUBLIC_ID)]

#: Not a ``Literal``: msgspec fails to compare one with a lone surrogate.
DecisionWord = Annotated[
    str,
    Meta(pattern=r"^(approve|edit|reject)$(?!\n)", extra_json_schema={"enum": ["approve", "edit", "reject"]}),
]

DeliveryWord = Annotated[str, Meta(pattern=r"^(queue|reject)$(?!\n)", extra_json_schema={"enum": ["queue", "reject"]})]


def _check_metadata(metadata: dict[str, Any] | msgspec.UnsetType | None) -> None:
    if not isinstance(metadata, dict):
        return
    if len(canonical_json(metadata).encode()) > MAX_METADATA_BYTES:
        raise BadRequest(f"metadata: must not be over {MAX_METADATA_BYTES} bytes of JSON", field="metadata")
    if not isinstance(metadata.get("instructions", ""), str):
        raise BadRequest("metadata.instructions: must be a string", field="metadata.instructions")


class NewSession(Input):
    """Ask for a session."""

    session_id: SessionId | None = None
    title: Title | None = None
    agent: str | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metadata(self.metadata)


class SessionChange(Input):
    """Change a session; what is absent stays."""

    title: Title | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metadata(self.metadata)


class NewMessage(Input):
    """Send a user's message; ``delivery`` says what happens while a turn is active."""

    content: str
    delivery: DeliveryWord = "queue"


class Decision(Input):
    """Decide an approval."""

    decision: DecisionWord
    modified_arguments: dict[str, Any] | None = None
    feedback: str | None = None


class SwitchRequest(Input):
    """Hand the session to another agent."""

    target_agent: str
    reason: str | None = None


class ToolResult(msgspec.Struct):
    """Answer a tool call: any JSON as ``result``, or ``error``.

    A tool says what it says: U+0000 and lone surrogates become U+FFFD rather than losing the result.
    """

    call_id: Annotated[str, Meta(max_length=255)]
    result: Any = None
    error: str | None = None

    def __post_init__(self) -> None:
        reject_unstorable(self.call_id, "call_id")
        try:
            self.result = scrub_json(self.result)
        except ValueError as error:
            raise BadRequest(f"result: {error}", field="result") from None
        self.error = None if self.error is None else scrub(self.error)


class MessageAccepted(msgspec.Struct):
    """Acknowledge a message: it is kept, and will be answered."""

    message_id: str
    turn_id: str
    seq: int


class ToolResultTaken(msgspec.Struct):
    """Acknowledge a tool result; ``seq`` is that of the recorded outcome."""

    call_id: str
    status: str
    seq: int | None


class QueuedTurn(msgspec.Struct):
    """A turn that waits for those before it, and its message."""

    turn_id: str
    message_id: str
    content: str
    created_at: datetime


class Queue(msgspec.Struct):
    """What waits in a session, in order."""

    session_id: str
    queue: list[QueuedTurn]
    count: int


class TurnState(msgspec.Struct):
    """Say which turn a command met and what it is now."""

    turn_id: str | None
    state: str | None


class ActiveTurn(msgspec.Struct):
    """The turn of a session that is running or waiting."""

    turn_id: str
    state: str


class SessionInfo(msgspec.Struct):
    """Describe a session; ``id`` and ``session_id`` are the same, since the reference's clients read either."""

    id: str
    session_id: str
    title: str | None
    description: str | None
    created_at: datetime
    updated_at: datetime
    last_activity: datetime
    current_agent: str
    message_count: int
    is_active: bool
    metadata: dict[str, Any]
    last_seq: int
    active_turn: ActiveTurn | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.sessions``."""
        return cls(
            id=row.id,
            session_id=row.id,
            title=row.title,
            description=row.description,
            created_at=row.created_at,
            updated_at=row.updated_at,
            last_activity=row.last_activity,
            current_agent=row.current_agent,
            message_count=row.message_count,
            is_active=row.is_active,
            metadata=row.metadata_json,
            last_seq=row.last_seq,
            active_turn=ActiveTurn(row.turn_id, row.turn_state) if row.turn_id else None,
        )

    @classmethod
    def fresh(cls, session_id: str, title: str | None, agent: str, metadata: dict[str, Any], at: datetime) -> Self:
        """Make that of a session that was inserted just now."""
        return cls(
            id=session_id,
            session_id=session_id,
            title=title,
            description=None,
            created_at=at,
            updated_at=at,
            last_activity=at,
            current_agent=agent,
            message_count=0,
            is_active=True,
            metadata=metadata,
            last_seq=0,
            active_turn=None,
        )


class SessionList(msgspec.Struct):
    """A page of sessions; ``total`` is null when the list is filtered."""

    sessions: list[SessionInfo]
    total: int | None
    limit: int
    offset: int
    next_cursor: str | None


class Approval(msgspec.Struct):
    """A question to a person, or how it was decided; ``request_id`` is the reference's name of ``approval_id``."""

    approval_id: str
    request_id: str
    request_type: str
    subject: str | None
    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    details: dict[str, Any]
    reason: str | None
    created_at: datetime
    status: str
    decision: str | None
    decided_at: datetime | None
    decided_by: str | None
    feedback: str | None
    modified_arguments: dict[str, Any] | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.approvals``."""
        arguments = msgspec.json.decode(row.arguments)
        return cls(
            approval_id=row.request_id,
            request_id=row.request_id,
            request_type=row.request_type,
            subject=row.subject,
            call_id=row.call_id,
            tool_name=row.tool_name,
            arguments=arguments,
            details={"arguments": arguments, "digest": row.digest},
            reason=row.reason,
            created_at=row.created_at,
            status=row.status,
            decision=row.decision,
            decided_at=row.decision_at,
            decided_by=row.decided_by,
            feedback=row.decision_reason,
            modified_arguments=msgspec.json.decode(row.decided_arguments) if row.decision == "edit" else None,
        )


class ApprovalList(msgspec.Struct):
    """What waits for a person in a session."""

    session_id: str
    pending_approvals: list[Approval]
    count: int


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


class Switch(msgspec.Struct):
    """One hand-over from agent to agent."""

    from_agent: str | None
    to_agent: str
    reason: str | None
    switched_at: datetime
    confidence: str | None
    by: str

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``agent_switches``."""
        return cls(row.from_agent, row.to_agent, row.reason, row.switched_at, row.confidence, row.switched_by)


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


class AgentContextInfo(msgspec.Struct):
    """Which agent a session is with."""

    id: str
    session_id: str
    current_agent: str
    switch_count: int
    switch_history: list[Switch] | None
    last_switch_at: datetime | None
    created_at: datetime

    @classmethod
    def from_rows(cls, session: Row[Any], switches: Sequence[Row[Any]] | None) -> Self:
        """Make it from a row of ``repository.sessions``, and the hand-overs where they are wanted."""
        return cls(
            id=session.context_id,
            session_id=session.id,
            current_agent=session.current_agent,
            switch_count=session.switch_count,
            switch_history=None if switches is None else [Switch.from_row(row) for row in switches],
            last_switch_at=session.last_switch_at if session.switch_count else None,
            created_at=session.created_at,
        )


class ContextAnswer(msgspec.Struct):
    """Wrap an agent context, as the reference does."""

    context: AgentContextInfo


class AgentInfo(msgspec.Struct):
    """Describe an agent in the reference's shape."""

    type: str
    name: str
    description: str
    allowed_tools: tuple[str, ...]
    has_file_restrictions: bool

    @classmethod
    def from_agent(cls, agent: Agent) -> Self:
        """Make it from an agent's definition."""
        return cls(agent.name, agent.title, agent.description, agent.tools, bool(agent.path_rules))


class AgentList(msgspec.Struct):
    """List the agents."""

    agents: list[AgentInfo]
    total: int
