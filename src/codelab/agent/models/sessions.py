"""Sessions, whose they are, and which agent they are with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase, session_key
from codelab.agent.models.usage import TotalColumns
from codelab.db import BigKey, JsonText, UtcDateTime

__all__ = ("AgentContext", "AgentSwitch", "Session", "SessionCounter")


class Session(TotalColumns, AgentBase):
    """A conversation that one person owns. ``last_seq`` is the ``seq`` of its newest event.

    ``model`` is the one that was chosen for it. ``input_tokens`` is null until a call of a model was counted.
    ``policy_rules`` is JSON: the rules that its owner set for it.
    """

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
    model: Mapped[str | None] = mapped_column(String(255))
    policy_rules: Mapped[str | None] = mapped_column(Text)
    plan: Mapped[str | None] = mapped_column(Text)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)


class SessionCounter(AgentBase):
    """What is counted for a person: their live sessions, so that a list need not, and the changes of approvals."""

    __tablename__ = "session_counters"

    owner_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    live_sessions: Mapped[int] = mapped_column(Integer, nullable=False)
    inbox_seq: Mapped[int] = mapped_column(BigInteger, nullable=False, default=0, server_default="0")


class AgentContext(AgentBase):
    """Which agent a session is with."""

    __tablename__ = "agent_contexts"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_db_id: Mapped[int] = session_key(unique=True)
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
