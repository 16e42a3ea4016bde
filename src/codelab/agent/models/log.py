"""The event log, and what was folded of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase
from codelab.db import BigKey, UtcDateTime

__all__ = ("FoldedRange", "SessionEvent")


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
