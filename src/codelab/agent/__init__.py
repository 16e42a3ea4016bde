"""Module ``agent``: sessions, turns, approvals, agents and models. ``AgentModule`` is its one public surface."""

from __future__ import annotations

from codelab.agent.module import AgentModule

__all__ = ("AgentModule",)
