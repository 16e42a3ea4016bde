"""Answers that are kept for clients who repeat a request."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase
from codelab.db import BigKey, UtcDateTime

__all__ = ("KeptAnswer",)


class KeptAnswer(AgentBase):
    """What was answered to a request that had an Idempotency-Key.

    ``request`` is the hash of route and key, ``digest`` that of what the client sent, ``answer`` is JSON,
    empty where it was too long to keep.
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
