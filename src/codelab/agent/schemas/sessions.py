"""Sessions, as they go over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from codelab.agent.ownership import PUBLIC_ID
from codelab.agent.schemas.usage import TotalUsage
from codelab.errors import BadRequest
from codelab.text import Input, canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Row


__all__ = ("ActiveTurn", "NewSession", "SessionChange", "SessionInfo", "SessionList")

MAX_METADATA_BYTES = 64 * 1024
Title = Annotated[str, Meta(max_length=500)]
SessionId = Annotated[str, Meta(min_length=1, max_length=36, pattern=PUBLIC_ID)]


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
    model: str | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metadata(self.metadata)


class SessionChange(Input):
    """Change a session; what is absent stays. Without a model of its own it has that of its agent."""

    title: Title | msgspec.UnsetType | None = msgspec.UNSET
    model: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metadata(self.metadata)


class ActiveTurn(msgspec.Struct):
    """The turn of a session that is running or waiting."""

    turn_id: str
    state: str


class PlanItem(msgspec.Struct):
    """One thing on an agent's to-do list; its status is ``pending``, ``in_progress`` or ``completed``."""

    text: str
    status: str


class SessionInfo(msgspec.Struct):
    """Describe a session; ``id`` and ``session_id`` are the same, since the reference's clients read either.

    ``plan`` is what its agents have to do, null before one said so.
    """

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
    usage: TotalUsage | None
    model: str | None = None
    plan: list[PlanItem] | None = None

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
            usage=TotalUsage.from_row(row),
            model=row.model,
            plan=msgspec.json.decode(row.plan, type=list[PlanItem]) if row.plan else None,
        )

    @classmethod
    def fresh(cls, session_id: str, new: NewSession, agent: str, metadata: dict[str, Any], at: datetime) -> Self:
        """Make that of a session that was inserted just now, as ``new`` asked for."""
        return cls(
            id=session_id,
            session_id=session_id,
            title=new.title,
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
            usage=None,
            model=new.model,
        )


class SessionList(msgspec.Struct):
    """A page of sessions; ``total`` is null when the list is filtered."""

    sessions: list[SessionInfo]
    total: int | None
    limit: int
    offset: int
    next_cursor: str | None
