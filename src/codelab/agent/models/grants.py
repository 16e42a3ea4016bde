"""What people allow beside a decision."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase
from codelab.db import BigKey, UtcDateTime

__all__ = ("Grant",)


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
