"""Agents, and which one a session is with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from codelab.text import Input

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row

    from codelab.agent.agents import Agent

__all__ = ("AgentContextInfo", "AgentInfo", "AgentList", "ContextAnswer", "Switch", "SwitchRequest")


class SwitchRequest(Input):
    """Hand the session to another agent."""

    target_agent: str
    reason: str | None = None


class Switch(msgspec.Struct):
    """One hand-over from agent to agent."""

    from_agent: str | None
    to_agent: str
    reason: str | None
    switched_at: datetime
    confidence: str | None
    by: str

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``agent_switches``."""
        return cls(row.from_agent, row.to_agent, row.reason, row.switched_at, row.confidence, row.switched_by)


class AgentContextInfo(msgspec.Struct):
    """Which agent a session is with."""

    id: str
    session_id: str
    current_agent: str
    switch_count: int
    switch_history: list[Switch] | None
    last_switch_at: datetime | None
    created_at: datetime

    @classmethod
    def from_rows(cls, session: Row[Any], switches: Sequence[Row[Any]] | None) -> Self:
        """Make it from a row of ``repository.sessions``, and the hand-overs where they are wanted."""
        return cls(
            id=session.context_id,
            session_id=session.id,
            current_agent=session.current_agent,
            switch_count=session.switch_count,
            switch_history=None if switches is None else [Switch.from_row(row) for row in switches],
            last_switch_at=session.last_switch_at if session.switch_count else None,
            created_at=session.created_at,
        )


class ContextAnswer(msgspec.Struct):
    """Wrap an agent context, as the reference does."""

    context: AgentContextInfo


class AgentInfo(msgspec.Struct):
    """Describe an agent in the reference's shape."""

    type: str
    name: str
    description: str
    allowed_tools: tuple[str, ...]
    has_file_restrictions: bool

    @classmethod
    def from_agent(cls, agent: Agent) -> Self:
        """Make it from an agent's definition."""
        return cls(agent.name, agent.title, agent.description, agent.tools, bool(agent.path_rules))


class AgentList(msgspec.Struct):
    """List the agents."""

    agents: list[AgentInfo]
    total: int

    @classmethod
    def of(cls, agents: Iterable[Agent]) -> Self:
        """Make it from definitions."""
        described = [AgentInfo.from_agent(agent) for agent in agents]
        return cls(described, len(described))
