"""The messages of the transcript."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase, session_key
from codelab.agent.models.usage import CostColumns
from codelab.db import BigKey, JsonText, UtcDateTime

__all__ = ("Message", "MessageImage")


class Message(CostColumns, AgentBase):
    """One message of the transcript. The order is (turn, ``seq``), never the clock.

    ``duration_ms`` is how long the model call took that made it, from its request to its last word.

    ``tool_calls``, ``reasoning`` (what the provider wants back included) and ``images`` (what each is, without its
    bytes) are canonical JSON.
    """

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
    session_db_id: Mapped[int] = session_key()
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
    reasoning: Mapped[str | None] = mapped_column(Text)
    images: Mapped[str | None] = mapped_column(Text)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    token_count: Mapped[int | None] = mapped_column(Integer)
    metadata_json: Mapped[dict[str, Any] | None] = mapped_column(JsonText)


class MessageImage(AgentBase):
    """The bytes of one image of a message, in base64; ``n`` counts from 0. A table of its own keeps messages small."""

    __tablename__ = "message_images"
    __table_args__ = (Index("ix_message_images_session_db_id", "session_db_id"),)

    message_id: Mapped[str] = mapped_column(String(36), ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    session_db_id: Mapped[int] = session_key()
    media_type: Mapped[str] = mapped_column(String(50), nullable=False)
    data: Mapped[str] = mapped_column(Text, nullable=False)
