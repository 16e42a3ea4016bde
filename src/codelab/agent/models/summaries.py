"""What models are sent in place of the older part of a session."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase, session_key
from codelab.db import BigKey, UtcDateTime

__all__ = ("ContextSummary",)


class ContextSummary(AgentBase):
    """A model's summary of everything in a session up to a message, the summaries before it included.

    The message's place is (``turn_db_id``, ``seq``). The tokens are what making it took; null where the provider did
    not say.
    """

    __tablename__ = "context_summaries"
    __table_args__ = (
        Index("uq_context_summaries_place", "session_db_id", "turn_db_id", "seq", unique=True),
        Index("ix_context_summaries_turn_db_id", "turn_db_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_db_id: Mapped[int] = session_key()
    turn_db_id: Mapped[int] = mapped_column(BigKey, ForeignKey("turns.db_id", ondelete="CASCADE"), nullable=False)
    seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    message_id: Mapped[str] = mapped_column(String(36), nullable=False)
    text: Mapped[str] = mapped_column(Text, nullable=False)
    model: Mapped[str] = mapped_column(String(255), nullable=False)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
