"""SQL of figures: what a person's sessions have done, counted where it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, select

from codelab.agent.repository.tables import approvals, calls, contexts, messages, sessions, switches, turns

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "approvals_by_tool",
    "calls_by_agent",
    "calls_by_tool",
    "count_requests",
    "count_switches",
    "decisions",
    "failures",
    "list_failed_turns",
    "list_requests",
    "list_with_requests",
)


#: A model call that gave an answer, whole or cut off.
_ANSWERED = and_(messages.c.role == "assistant", messages.c.status != "streaming")
_WHOLE = case((messages.c.status == "completed", 1), else_=0)
_CUT_OFF = exists().where(messages.c.turn_db_id == turns.c.db_id, messages.c.status == "interrupted", _ANSWERED)
#: A turn whose last model call failed before it said anything; otherwise that call has a message.
_FAILED = and_(turns.c.state == "failed", ~_CUT_OFF)


def _owned(owner_id: str) -> ColumnElement[bool]:
    return and_(sessions.c.owner_id == owner_id, sessions.c.deleted_at.is_(None))


async def count_requests(db: AsyncSession, session_db_id: int) -> tuple[Row[Any], int]:
    """Return the sums over the answered model calls of a session, and how many calls failed before a word."""
    statement: Select[Any] = select(
        func.count().label("answered"),
        func.coalesce(func.sum(_WHOLE), 0).label("whole"),
        func.coalesce(func.sum(messages.c.duration_ms), 0).label("duration_ms"),
        func.coalesce(func.sum(messages.c.input_tokens), 0).label("input_tokens"),
        func.coalesce(func.sum(messages.c.output_tokens), 0).label("output_tokens"),
        func.count(messages.c.tool_calls).label("with_tools"),
    ).where(messages.c.session_db_id == session_db_id, _ANSWERED)
    failed = await db.execute(select(func.count()).where(turns.c.session_db_id == session_db_id, _FAILED))
    return (await db.execute(statement)).one(), failed.scalar_one()


async def list_requests(db: AsyncSession, session_db_id: int, limit: int) -> list[Row[Any]]:
    """Return the newest answered model calls of a session, with how their turns ended."""
    statement: Select[Any] = (
        select(
            messages.c.timestamp,
            messages.c.model,
            messages.c.status,
            messages.c.duration_ms,
            messages.c.input_tokens,
            messages.c.output_tokens,
            messages.c.tool_calls,
            turns.c.error,
        )
        .join(turns, turns.c.db_id == messages.c.turn_db_id)
        .where(messages.c.session_db_id == session_db_id, _ANSWERED)
        .order_by(messages.c.turn_db_id.desc(), messages.c.seq.desc())
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


async def list_failed_turns(db: AsyncSession, session_db_id: int, limit: int) -> list[Row[Any]]:
    """Return the newest turns of a session whose last model call failed before it said anything."""
    statement: Select[Any] = (
        select(turns.c.ended_at, turns.c.error)
        .where(turns.c.session_db_id == session_db_id, _FAILED)
        .order_by(turns.c.db_id.desc())
        .limit(limit)
    )
    return list((await db.execute(statement)).all())


async def list_with_requests(db: AsyncSession, owner_id: str, limit: int) -> list[str]:
    """Return the ids of a person's sessions in which a model was asked, the latest activity first."""
    asked = exists().where(messages.c.session_db_id == sessions.c.db_id, _ANSWERED)
    statement: Select[Any] = (
        select(sessions.c.id).where(_owned(owner_id), asked).order_by(sessions.c.last_activity.desc()).limit(limit)
    )
    return list((await db.execute(statement)).scalars())


async def count_switches(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count hand-overs by both agents."""
    statement: Select[Any] = (
        select(switches.c.from_agent, switches.c.to_agent, func.count().label("n"))
        .join(contexts, contexts.c.id == switches.c.context_db_id)
        .join(sessions, sessions.c.db_id == contexts.c.session_db_id)
        .where(_owned(owner_id))
        .group_by(switches.c.from_agent, switches.c.to_agent)
        .order_by(switches.c.from_agent, switches.c.to_agent)
    )
    return list((await db.execute(statement)).all())


async def calls_by_agent(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count answered model calls by agent: all, whole ones, and the time that they took."""
    statement: Select[Any] = (
        select(
            messages.c.agent,
            func.count().label("n"),
            func.sum(_WHOLE).label("whole"),
            func.coalesce(func.sum(messages.c.duration_ms), 0).label("duration_ms"),
        )
        .join(sessions, sessions.c.db_id == messages.c.session_db_id)
        .where(_owned(owner_id), _ANSWERED)
        .group_by(messages.c.agent)
        .order_by(messages.c.agent)
    )
    return list((await db.execute(statement)).all())


async def calls_by_tool(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count tool calls by tool and state."""
    statement: Select[Any] = (
        select(calls.c.tool_name, calls.c.state, func.count().label("n"))
        .join(sessions, sessions.c.db_id == calls.c.session_db_id)
        .where(_owned(owner_id))
        .group_by(calls.c.tool_name, calls.c.state)
        .order_by(calls.c.tool_name, calls.c.state)
    )
    return list((await db.execute(statement)).all())


async def approvals_by_tool(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count the calls that a person was asked about, by tool."""
    statement: Select[Any] = (
        select(approvals.c.tool_name, func.count().label("n"))
        .join(sessions, sessions.c.db_id == approvals.c.session_db_id)
        .where(_owned(owner_id), approvals.c.request_type == "tool")
        .group_by(approvals.c.tool_name)
    )
    return list((await db.execute(statement)).all())


async def decisions(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count decisions by kind."""
    statement: Select[Any] = (
        select(approvals.c.decision, func.count().label("n"))
        .join(sessions, sessions.c.db_id == approvals.c.session_db_id)
        .where(_owned(owner_id), approvals.c.decision.is_not(None))
        .group_by(approvals.c.decision)
        .order_by(approvals.c.decision)
    )
    return list((await db.execute(statement)).all())


async def failures(db: AsyncSession, owner_id: str) -> list[Row[Any]]:
    """Count failed turns by the agent that their session is with, and by code."""
    statement: Select[Any] = (
        select(contexts.c.current_agent, turns.c.error_code, func.count().label("n"))
        .join(sessions, sessions.c.db_id == turns.c.session_db_id)
        .join(contexts, contexts.c.session_db_id == sessions.c.db_id)
        .where(_owned(owner_id), turns.c.state == "failed")
        .group_by(contexts.c.current_agent, turns.c.error_code)
        .order_by(contexts.c.current_agent, turns.c.error_code)
    )
    return list((await db.execute(statement)).all())
