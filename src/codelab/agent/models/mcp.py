"""MCP servers that people gave to sessions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.agent.models.base import AgentBase, session_key
from codelab.db import BigKey, UtcDateTime

__all__ = ("McpServer",)


class McpServer(AgentBase):
    """A server whose tools a session has. ``name`` is a part of the names of its tools.

    It is reached over streamable HTTP, or the client ``client_id`` runs it and ``url`` is empty. ``headers`` is
    encrypted, ``tools`` the JSON of what it offered last, ``error`` why it could not be asked since.
    """

    __tablename__ = "mcp_servers"
    __table_args__ = (Index("uq_mcp_servers_name", "session_db_id", "name", unique=True),)

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), nullable=False, unique=True)
    session_db_id: Mapped[int] = session_key()
    name: Mapped[str] = mapped_column(String(24), nullable=False)
    url: Mapped[str] = mapped_column(Text, nullable=False)
    client_id: Mapped[str | None] = mapped_column(String(64))
    headers: Mapped[str | None] = mapped_column(Text)
    tools: Mapped[str] = mapped_column(Text, nullable=False)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
