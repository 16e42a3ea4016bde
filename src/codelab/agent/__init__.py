"""Module ``agent``: sessions, turns, approvals, agents and models. ``AgentModule`` is its one public surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codelab.agent.module import AgentModule

__all__ = ("AgentModule",)


def __getattr__(name: str) -> Any:
    """Import the module when it is asked for: commands that only need its data start without Litestar."""
    if name in __all__:
        from codelab.agent import module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
