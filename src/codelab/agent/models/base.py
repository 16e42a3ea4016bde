"""What the tables of the module share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from advanced_alchemy.base import CommonTableAttributes, create_registry
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codelab.db import BigKey, JsonText, UtcDateTime

__all__ = ("AgentBase", "session_key")


class AgentBase(CommonTableAttributes, DeclarativeBase):
    """Base of the module's models, with a registry of its own."""

    __abstract__ = True
    registry = create_registry(custom_annotation_map={datetime: UtcDateTime, dict: JsonText, dict[str, Any]: JsonText})


def session_key(*, unique: bool = False) -> Mapped[int]:
    """Make the column that says which session a row belongs to; the row goes with the session."""
    return mapped_column(BigKey, ForeignKey("sessions.db_id", ondelete="CASCADE"), nullable=False, unique=unique)
