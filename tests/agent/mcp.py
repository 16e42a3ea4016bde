"""What the tests of MCP tools have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.server import Event, Person

__all__ = ("allow", "completed", "is_question")


async def allow(person: Person, session: str) -> None:
    """Let every MCP tool of the session run."""
    rules = [{"tool": "mcp__*", "effect": "allow", "reason": "mine"}]
    assert (await person.http.put(f"/api/v1/sessions/{session}/policy", json={"rules": rules})).is_success


def completed(events: list[Event]) -> dict[str, dict[str, Any]]:
    """Return how each call ended."""
    return {event.data["call_id"]: event.data for event in events if event.type == "tool.completed"}


def is_question(event: Event) -> bool:
    """Tell whether a person is asked about a call of unknown outcome."""
    return event.type == "approval.requested" and event.data["request_type"] == "unknown_outcome"
