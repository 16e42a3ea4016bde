"""The tables of module ``agent``.

The five tables of the reference system keep their names and columns; ``db_id`` is our internal key, since a public
session id is unique per owner only. ``session_events`` is the log that every client follows, ``turns`` and
``tool_calls`` are the work.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from advanced_alchemy.base import CommonTableAttributes, create_registry
from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codelab.db import BigKey, JsonText, UtcDateTime

__all__ = (
    "AgentBase",
    "AgentContext",
    "AgentSwitch",
    "FoldedRange",
    "Grant",
    "KeptAnswer",
    "Message",
    "PendingApproval",
    "Session",
    "SessionCounter",
    "SessionEvent",
    "ToolCall",
    "Turn",
)


class AgentBase(CommonTableAttributes, DeclarativeBase):
    """Base of the module's models, with a registry of its own."""

    __abstract__ = True
    registry = create_registry(custom_annotation_map={datetime: UtcDateTime, dict: JsonText, dict[str, Any]: JsonText})


def _session_key(*, unique: bool = False) -> Mapped[int]:
    return mapped_column(BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"), nullable=False, unique=unique)


class Session(AgentBase):
    """A conversation that one person owns. ``last_seq`` is the ``seq`` of its newest event."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(
            "uq_sessions_owner_id_id",
            "owner_id",
            "id",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_sessions_deleted_at",
            "deleted_at",
            sqlite_where=text("deleted_at IS NOT NULL"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
        Index(
            "ix_sessions_owner_activity",
            "owner_id",
            "last_activity",
            "db_id",
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), nullable=False)
    owner_id: Mapped[str] = mapped_column(String(255), nullable=False)
    title: Mapped[str | None] = mapped_column(String(500))
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    last_activity: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    is_active: Mapped[bool] = mapped_column(Boolean, nullable=False, default=True)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    metadata_json: Mapped[dict[str, Any]] = mapped_column(JsonText, nullable=False)
    message_count: Mapped[int] = mapped_column(Integer, nullable=False, default=0)
    last_seq: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0)


class SessionCounter(AgentBase):
    """How many live sessions a person has, so that a list need not count them."""

    __tablename__ = "session_counters"

    owner_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    live_sessions: Mapped[int] = mapped_column(Integer, nullable=False)


class Turn(AgentBase):
    """The work from a user message to the agent's answer; in a session at most one is ``running`` or ``waiting``.

    After ``folded_at`` it has no deltas any more; see ``FoldedRange``.
    """

    __tablename__ = "turns"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')", name="turn_state"
        ),
        Index(
            "uq_turns_active",
            "session_db_id",
            unique=True,
            sqlite_where=text("state IN ('running', 'waiting')"),
            postgresql_where=text("state IN ('running', 'waiting')"),
        ),
        Index(
            "ix_turns_open",
            "session_db_id",
            "db_id",
            sqlite_where=text("state IN ('queued', 'running', 'waiting')"),
            postgresql_where=text("state IN ('queued', 'running', 'waiting')"),
        ),
        Index("ix_turns_session_db_id", "session_db_id"),
        Index(
            "ix_turns_unfolded",
            "ended_at",
            sqlite_where=text("folded_at IS NULL AND ended_at IS NOT NULL"),
            postgresql_where=text("folded_at IS NULL AND ended_at IS NOT NULL"),
        ),
    )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), nullable=False, unique=True)
    session_db_id: Mapped[int] = _session_key()
    message_id: Mapped[str] = mapped_column(String(36), nullable=False)
    state: Mapped[str] = mapped_column(String(20), nullable=False)
    steps: Mapped[int] = mapped_column(Integer, nullable=False, default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0)
    error_code: Mapped[str | None] = mapped_column(String(100))
    error: Mapped[str | None] = mapped_column(Text)
    lease_owner: Mapped[str | None] = mapped_column(String(36))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    folded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Message(AgentBase):
    """One message of the transcript. The order is (turn, ``seq``), never the clock."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name="valid_role"),
        CheckConstraint("status IN ('streaming', 'completed', 'interrupted')", name="message_status"),
        Index("uq_messages_order", "session_db_id", "turn_db_id", "seq", unique=True),
        Index("ix_messages_turn_db_id", "turn_db_id"),
        Index(
            "uq_messages_tool_call_id",
            "session_db_id",
            "tool_call_id",
            unique=True,
            sqlite_where=text("tool_call_id IS NOT NULL"),
            postgresql_where=text("tool_call_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_db_id: Mapped[int] = _session_key()
    turn_db_id: Mapped[int] = mapped_column(BigKey, ForeignKey("turns.db_id", ondelete="CASCADE"), nullable=False)
    seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    role: Mapped[str] = mapped_column(String(50), nullable=False)
    status: Mapped[str] = mapped_column(String(20), nullable=False)
    content: Mapped[str | None] = mapped_column(Text)
    timestamp: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    agent: Mapped[str | None] = mapped_column(String(100))
    model: Mapped[str | None] = mapped_column(String(255))
    name: Mapped[str | None] = mapped_column(String(255))
    tool_call_id: Mapped[str | None] = mapped_column(String(255))
    tool_calls: Mapped[str | None] = mapped_column(Text)
    token_count: Mapped[int | None] = mapped_column(Integer)
    metadata_json: Mapped[dict[str, Any] | None] = mapped_column(JsonText)


class ToolCall(AgentBase):
    """One call of a tool that the model asked for, and what became of it. ``arguments`` is canonical JSON.

    ``claimed_by`` is the client that runs it or ran it last, ``attempt`` how often it was offered. One that waits for a
    person and has a client is of unknown outcome.
    """

    __tablename__ = "tool_calls"
    __table_args__ = (
        CheckConstraint(
            "state IN ('awaiting_approval', 'requested', 'completed', 'failed', 'denied', 'rejected', 'cancelled')",
            name="tool_call_state",
        ),
        Index("uq_tool_calls_call_id", "session_db_id", "call_id", unique=True),
        Index("ix_tool_calls_turn_db_id", "turn_db_id"),
        Index(
            "ix_tool_calls_claimed",
            "db_id",
            sqlite_where=text("state = 'requested' AND claimed_by IS NOT NULL"),
            postgresql_where=text("state = 'requested' AND claimed_by IS NOT NULL"),
        ),
    )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    session_db_id: Mapped[int] = _session_key()
    turn_db_id: Mapped[int] = mapped_column(BigKey, ForeignKey("turns.db_id", ondelete="CASCADE"), nullable=False)
    message_id: Mapped[str] = mapped_column(String(36), nullable=False)
    call_id: Mapped[str] = mapped_column(String(255), nullable=False)
    tool_name: Mapped[str] = mapped_column(String(255), nullable=False)
    arguments: Mapped[str] = mapped_column(Text, nullable=False)
    edited: Mapped[bool] = mapped_column(Boolean, nullable=False, default=False)
    state: Mapped[str] = mapped_column(String(20), nullable=False)
    attempt: Mapped[int] = mapped_column(Integer, nullable=False, default=1, server_default="1")
    claimed_by: Mapped[str | None] = mapped_column(String(64))
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    completed_seq: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PendingApproval(AgentBase):
    """A question to a person. ``request_id`` is its public id; ``digest`` binds it to exactly one call."""

    __tablename__ = "pending_approvals"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'approved', 'rejected', 'cancelled')", name="approval_status"),
        Index("idx_pending_approvals_session", "session_db_id", "status"),
        Index("idx_pending_approvals_call_id", "session_db_id", "call_id"),
        Index("ix_pending_approvals_turn_db_id", "turn_db_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(255), nullable=False, unique=True)
    request_type: Mapped[str] = mapped_column(String(50), nullable=False)
    subject: Mapped[str | None] = mapped_column(String(255))
    session_db_id: Mapped[int] = _session_key()
    turn_db_id: Mapped[int] = mapped_column(BigKey, ForeignKey("turns.db_id", ondelete="CASCADE"), nullable=False)
    call_id: Mapped[str] = mapped_column(String(255), nullable=False)
    agent: Mapped[str] = mapped_column(String(100), nullable=False)
    tool_name: Mapped[str] = mapped_column(String(255), nullable=False)
    arguments: Mapped[str] = mapped_column(Text, nullable=False)
    digest: Mapped[str] = mapped_column(String(64), nullable=False)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    status: Mapped[str] = mapped_column(String(50), nullable=False)
    decision: Mapped[str | None] = mapped_column(String(20))
    decision_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decision_reason: Mapped[str | None] = mapped_column(Text)
    decided_by: Mapped[str | None] = mapped_column(String(255))
    decided_arguments: Mapped[str | None] = mapped_column(Text)


class Grant(AgentBase):
    """A permission that a person gave beside a decision: calls like the decided one need not be asked for.

    ``rule`` is JSON and names the exact arguments. ``session_db_id``, ``turn_id`` and ``agent`` say where it holds,
    NULL is everywhere; ``uses_left`` and ``expires_at`` how long, NULL is until it is revoked.
    """

    __tablename__ = "grants"
    __table_args__ = (
        CheckConstraint(
            "scope IN ('once', 'times', 'until', 'turn', 'session', 'agent', 'all_sessions')", name="grant_scope"
        ),
        Index("ix_grants_owner", "owner_id", "db_id"),
        Index("ix_grants_session_db_id", "session_db_id"),
    )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), nullable=False, unique=True)
    owner_id: Mapped[str] = mapped_column(String(255), nullable=False)
    scope: Mapped[str] = mapped_column(String(20), nullable=False)
    session_db_id: Mapped[int | None] = mapped_column(BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"))
    turn_id: Mapped[str | None] = mapped_column(String(36))
    agent: Mapped[str | None] = mapped_column(String(100))
    tool_name: Mapped[str] = mapped_column(String(255), nullable=False)
    rule: Mapped[str] = mapped_column(Text, nullable=False)
    approval_id: Mapped[str] = mapped_column(String(255), nullable=False)
    client_id: Mapped[str] = mapped_column(String(255), nullable=False)
    uses: Mapped[int] = mapped_column(Integer, nullable=False)
    uses_left: Mapped[int | None] = mapped_column(Integer)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AgentContext(AgentBase):
    """Which agent a session is with."""

    __tablename__ = "agent_contexts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_db_id: Mapped[int] = _session_key(unique=True)
    current_agent: Mapped[str] = mapped_column(String(100), nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    switch_count: Mapped[int] = mapped_column(Integer, nullable=False, default=0)
    metadata_json: Mapped[dict[str, Any] | None] = mapped_column(JsonText)


class AgentSwitch(AgentBase):
    """One hand-over from agent to agent: why, how sure, and by whom (``router``, ``agent`` or ``user``)."""

    __tablename__ = "agent_switches"
    __table_args__ = (Index("idx_context_switched", "context_db_id", "switched_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    context_db_id: Mapped[str] = mapped_column(
        String(36), ForeignKey("agent_contexts.id", ondelete="CASCADE"), nullable=False
    )
    from_agent: Mapped[str | None] = mapped_column(String(100))
    to_agent: Mapped[str] = mapped_column(String(100), nullable=False)
    switched_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    reason: Mapped[str | None] = mapped_column(Text)
    confidence: Mapped[str | None] = mapped_column(String(20))
    switched_by: Mapped[str] = mapped_column(String(20), nullable=False)
    metadata_json: Mapped[dict[str, Any] | None] = mapped_column(JsonText)


class SessionEvent(AgentBase):
    """One event of a session's log; ``data`` is canonical JSON.

    ``seq`` counts from 1 without gaps, but for the deltas of a ``FoldedRange``.
    """

    __tablename__ = "session_events"

    session_db_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(50), nullable=False)
    data: Mapped[str] = mapped_column(Text, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)


class FoldedRange(AgentBase):
    """The deltas of one message that were folded away: ``deltas`` events with ``first_seq`` <= ``seq`` <= ``last_seq``.

    Their text is in the event ``message.completed`` with the ``seq`` ``completed_seq``. Other events may lie between
    them and stay. The row is there before the first delta is deleted.
    """

    __tablename__ = "folded_ranges"

    session_db_id: Mapped[int] = mapped_column(
        BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    completed_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    last_seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    deltas: Mapped[int] = mapped_column(BigInteger, nullable=False)
    folded_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)


class KeptAnswer(AgentBase):
    """What was answered to a request that had an Idempotency-Key.

    ``request`` is the hash of route and key, ``digest`` that of what the client sent, ``answer`` is JSON.
    """

    __tablename__ = "kept_answers"
    __table_args__ = (
        Index("uq_kept_answers_request", "owner_id", "request", unique=True),
        Index("ix_kept_answers_created_at", "created_at"),
    )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    owner_id: Mapped[str] = mapped_column(String(255), nullable=False)
    request: Mapped[str] = mapped_column(String(64), nullable=False)
    digest: Mapped[str] = mapped_column(String(64), nullable=False)
    answer: Mapped[str] = mapped_column(Text, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
