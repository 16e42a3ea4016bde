"""Turns, the tool calls in them, and what waits for a person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase, session_key
from codelab.agent.models.usage import TotalColumns
from codelab.db import BigKey, UtcDateTime

__all__ = ("PendingApproval", "ToolCall", "Turn")


class Turn(TotalColumns, AgentBase):
    """The work from a user message to the agent's answer; in a session at most one is ``running`` or ``waiting``.

    ``worked_ms`` is the time that its steps took, waiting for nobody; a step counts when it has ended. After
    ``folded_at`` it has no deltas any more; see ``FoldedRange``.
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
    session_db_id: Mapped[int] = session_key()
    message_id: Mapped[str] = mapped_column(String(36), nullable=False)
    state: Mapped[str] = mapped_column(String(20), nullable=False)
    steps: Mapped[int] = mapped_column(Integer, nullable=False, default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0)
    worked_ms: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0, server_default="0")
    error_code: Mapped[str | None] = mapped_column(String(100))
    error: Mapped[str | None] = mapped_column(Text)
    lease_owner: Mapped[str | None] = mapped_column(String(36))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    folded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


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
    session_db_id: Mapped[int] = session_key()
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
    """A question to a person. ``request_id`` is its public id; ``digest`` binds it to exactly one call.

    Of the type ``limit`` it asks whether a turn goes on, and no row of ``tool_calls`` has its ``call_id``.
    ``owner_id`` is that of the session. ``inbox_seq`` numbers the changes of a person's approvals: it is that of its
    last one. ``tool_version`` names the definition of a tool of an MCP server. ``expires_at`` is NULL for what was
    asked when nothing expired yet.
    """

    __tablename__ = "pending_approvals"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'cancelled', 'expired')", name="approval_status"
        ),
        Index("idx_pending_approvals_session", "session_db_id", "status"),
        Index("idx_pending_approvals_call_id", "session_db_id", "call_id"),
        Index("ix_pending_approvals_turn_db_id", "turn_db_id"),
        Index("uq_pending_approvals_inbox", "owner_id", "inbox_seq", unique=True),
        Index(
            "ix_pending_approvals_waiting",
            "owner_id",
            "inbox_seq",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "ix_pending_approvals_expiring",
            "expires_at",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(255), nullable=False, unique=True)
    owner_id: Mapped[str] = mapped_column(String(255), nullable=False)
    inbox_seq: Mapped[int | None] = mapped_column(BigInteger)
    request_type: Mapped[str] = mapped_column(String(50), nullable=False)
    subject: Mapped[str | None] = mapped_column(String(255))
    session_db_id: Mapped[int] = session_key()
    turn_db_id: Mapped[int] = mapped_column(BigKey, ForeignKey("turns.db_id", ondelete="CASCADE"), nullable=False)
    call_id: Mapped[str] = mapped_column(String(255), nullable=False)
    agent: Mapped[str] = mapped_column(String(100), nullable=False)
    tool_name: Mapped[str] = mapped_column(String(255), nullable=False)
    arguments: Mapped[str] = mapped_column(Text, nullable=False)
    digest: Mapped[str] = mapped_column(String(64), nullable=False)
    policy_version: Mapped[str | None] = mapped_column(String(64))
    tool_version: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    status: Mapped[str] = mapped_column(String(50), nullable=False)
    decision: Mapped[str | None] = mapped_column(String(20))
    decision_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decision_reason: Mapped[str | None] = mapped_column(Text)
    decided_by: Mapped[str | None] = mapped_column(String(255))
    decided_client_id: Mapped[str | None] = mapped_column(String(255))
    decided_arguments: Mapped[str | None] = mapped_column(Text)
