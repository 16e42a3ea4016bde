"""SQL of what happened that somebody may want to look into: questions, decisions, switches, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, and_, select

from codelab.agent.repository.tables import approvals, calls, contexts, messages, sessions, switches, turns

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("KINDS", "list_newest")


_TOOL_ERROR = and_(messages.c.session_db_id == calls.c.session_db_id, messages.c.tool_call_id == calls.c.call_id)
#: Each kind, with the time that orders it as ``at``, an id of its own, and its facts.
KINDS: dict[str, tuple[Select[Any], Any]] = {
    "tool_approval_required": (
        select(
            approvals.c.created_at.label("at"),
            approvals.c.request_id.label("event_id"),
            approvals.c.tool_name,
            approvals.c.call_id,
            approvals.c.reason,
            approvals.c.arguments,
        ).join(sessions, sessions.c.db_id == approvals.c.session_db_id),
        approvals.c.created_at,
    ),
    "hitl_decision_made": (
        select(
            approvals.c.decision_at.label("at"),
            approvals.c.id.label("event_id"),
            approvals.c.tool_name,
            approvals.c.call_id,
            approvals.c.decision,
            approvals.c.decision_reason.label("feedback"),
            approvals.c.decided_by,
        )
        .join(sessions, sessions.c.db_id == approvals.c.session_db_id)
        .where(approvals.c.decision.is_not(None)),
        approvals.c.decision_at,
    ),
    "agent_switched": (
        select(
            switches.c.switched_at.label("at"),
            switches.c.id.label("event_id"),
            switches.c.from_agent,
            switches.c.to_agent,
            switches.c.reason,
            switches.c.confidence,
        )
        .join(contexts, contexts.c.id == switches.c.context_db_id)
        .join(sessions, sessions.c.db_id == contexts.c.session_db_id),
        switches.c.switched_at,
    ),
    "tool_execution_failed": (
        select(
            calls.c.completed_at.label("at"),
            messages.c.id.label("event_id"),
            calls.c.tool_name,
            calls.c.call_id,
            messages.c.content.label("error"),
        )
        .join(messages, _TOOL_ERROR)
        .join(sessions, sessions.c.db_id == calls.c.session_db_id)
        .where(calls.c.state == "failed"),
        calls.c.completed_at,
    ),
    "agent_error": (
        select(
            turns.c.ended_at.label("at"),
            turns.c.id.label("event_id"),
            contexts.c.current_agent.label("agent"),
            turns.c.error.label("error_message"),
            turns.c.error_code.label("error_type"),
        )
        .join(sessions, sessions.c.db_id == turns.c.session_db_id)
        .join(contexts, contexts.c.session_db_id == sessions.c.db_id)
        .where(turns.c.state == "failed"),
        turns.c.ended_at,
    ),
}


async def list_newest(db: AsyncSession, kind: str, owner_id: str, session_id: str | None, limit: int) -> list[Row[Any]]:
    """Return the newest of a kind in a person's sessions, or in one of them; ``session_id`` is added to each."""
    statement, at = KINDS[kind]
    statement = statement.add_columns(sessions.c.id.label("session_id")).where(
        sessions.c.owner_id == owner_id, sessions.c.deleted_at.is_(None)
    )
    if session_id is not None:
        statement = statement.where(sessions.c.id == session_id)
    return list((await db.execute(statement.order_by(at.desc()).limit(limit))).all())
