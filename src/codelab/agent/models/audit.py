"""The audit trail of agents, and the chain over it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase
from codelab.db import JsonText, UtcDateTime
from codelab.db.chain import ChainCheckpoint, ChainedRow, ChainHead

__all__ = ("AgentAudit", "AgentAuditCheckpoint", "AgentAuditHead")


class AgentAudit(ChainedRow, AgentBase):
    """Something that an agent was allowed or refused, or that a person decided about it.

    ``owner_id`` is the person whose session it was, ``actor_id`` the one who did it (NULL: the program). Neither the
    person nor the session is a foreign key: the row outlives both.
    """

    __tablename__ = "agent_audit"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    event_type: Mapped[str] = mapped_column(String(50), nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False, index=True)
    owner_id: Mapped[str | None] = mapped_column(String(255), index=True)
    actor_id: Mapped[str | None] = mapped_column(String(255))
    client_id: Mapped[str | None] = mapped_column(String(255))
    session_id: Mapped[str | None] = mapped_column(String(36))
    data: Mapped[Any] = mapped_column(JsonText, nullable=True)


class AgentAuditHead(ChainHead, AgentBase):
    """Where the chain over the audit trail ends."""

    __tablename__ = "agent_audit_head"


class AgentAuditCheckpoint(ChainCheckpoint, AgentBase):
    """What happened to the chain over the audit trail as a whole."""

    __tablename__ = "agent_audit_checkpoints"
