"""What the tables of the module share."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codelab.db import BigKey, make_registry

__all__ = ("AgentBase", "session_key")


class AgentBase(DeclarativeBase):
    """Base of the module's models, with a registry of its own."""

    __abstract__ = True
    registry = make_registry()


def session_key(*, unique: bool = False) -> Mapped[int]:
    """Make the column that says which session a row belongs to; the row goes with the session."""
    return mapped_column(BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"), nullable=False, unique=unique)
