"""The rules that turns, messages, calls and approvals keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, literal, not_, or_, select, update

from codelab.agent.repository.approvals import LIMIT
from codelab.agent.repository.checks.common import did, find
from codelab.agent.repository.tables import approvals, calls, contexts, images, messages, sessions, turns
from codelab.db import now
from codelab.storage import Check, Finding

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection


__all__ = ("CHECKS",)


ENDED = ("completed", "failed", "cancelled")
OPEN_CALLS = ("awaiting_approval", "requested")


async def _find_active_turns(connection: AsyncConnection) -> list[Finding]:
    several = (
        select(literal("session"), sessions.c.id, literal("turns"), func.count())
        .join(turns, turns.c.session_db_id == sessions.c.db_id)
        .where(turns.c.state.in_(("running", "waiting")))
        .group_by(sessions.c.db_id, sessions.c.id)
        .having(func.count() > 1)
    )
    called = select(1).where(calls.c.turn_db_id == turns.c.db_id, calls.c.state.in_(OPEN_CALLS))
    asked = select(1).where(
        approvals.c.turn_db_id == turns.c.db_id, approvals.c.request_type == LIMIT, approvals.c.status == "pending"
    )
    stuck = select(literal("turn"), turns.c.id).where(turns.c.state == "waiting", ~called.exists(), ~asked.exists())
    return [
        *await find(connection, "turns", several, "{count} sessions have more than one active turn"),
        *await find(connection, "turns", stuck, "{count} turns wait for nothing; a cancel ends them"),
    ]


async def _find_leases(connection: AsyncConnection) -> list[Finding]:
    past = and_(turns.c.lease_expires_at.is_not(None), turns.c.lease_expires_at < now())
    stale = or_(
        and_(turns.c.state == "running", past), and_(turns.c.state.in_(ENDED), turns.c.lease_owner.is_not(None))
    )
    count = (await connection.execute(select(func.count()).select_from(turns).where(stale))).scalar_one()
    running = select(func.count()).select_from(turns).where(turns.c.state == "running", not_(stale))
    left = (await connection.execute(running)).scalar_one()
    notes = []
    if count:
        notes.append(f"{count} turns have a stale lease; a server that starts takes them up")
    if left:
        notes.append(f"{left} turns are running, or were when their server ended: a server that starts takes them up")
    return [Finding(check="leases", severity="note", detail=note) for note in notes]


async def _find_streaming(connection: AsyncConnection) -> list[Finding]:
    open_ended = (
        select(literal("message"), messages.c.id)
        .join(turns, turns.c.db_id == messages.c.turn_db_id)
        .where(messages.c.status == "streaming", turns.c.state.in_(ENDED))
    )
    return await find(connection, "messages", open_ended, "{count} messages of ended turns are still streaming")


async def _find_lost_parts(connection: AsyncConnection) -> list[Finding]:
    """Rows that name others without a foreign key."""
    asked = select(1).where(messages.c.id == turns.c.message_id).exists()
    without_question = select(literal("turn"), turns.c.id).where(~asked)
    said = select(1).where(messages.c.id == calls.c.message_id).exists()
    without_answer = select(literal("call"), calls.c.call_id).where(~said)
    contained = select(1).where(contexts.c.session_db_id == sessions.c.db_id).exists()
    without_context = select(literal("session"), sessions.c.id).where(~contained)
    elsewhere = (
        select(literal("message"), messages.c.id)
        .join(turns, turns.c.db_id == messages.c.turn_db_id)
        .where(turns.c.session_db_id != messages.c.session_db_id)
    )
    return [
        *await find(connection, "orphans", without_question, "{count} turns have lost the message that began them"),
        *await find(connection, "orphans", without_answer, "{count} tool calls have lost the message that made them"),
        *await find(connection, "orphans", without_context, "{count} sessions have no agent and cannot be opened"),
        *await find(connection, "orphans", elsewhere, "{count} messages belong to a turn of another session"),
    ]


async def _find_images(connection: AsyncConnection) -> list[Finding]:
    """Messages tell their images, each with its digest; the bytes are in a table of their own."""
    there = select(func.count()).where(images.c.message_id == messages.c.id).scalar_subquery()
    name = '"sha256"'
    told = func.length(messages.c.images) - func.length(func.replace(messages.c.images, name, ""))
    lost = select(literal("message"), messages.c.id).where(func.coalesce(told, 0) != there * len(name))
    return await find(connection, "images", lost, "{count} messages tell of other images than there are")


async def _find_calls(connection: AsyncConnection) -> list[Finding]:
    ended = select(literal("call"), calls.c.call_id).join(turns, turns.c.db_id == calls.c.turn_db_id)
    unanswered = ended.where(calls.c.state.in_(OPEN_CALLS), turns.c.state.in_(ENDED))
    result = and_(messages.c.session_db_id == calls.c.session_db_id, messages.c.tool_call_id == calls.c.call_id)
    no_result = select(literal("call"), calls.c.call_id).where(
        calls.c.state.not_in(OPEN_CALLS), ~select(1).where(result).exists()
    )
    asked = and_(
        approvals.c.session_db_id == calls.c.session_db_id,
        approvals.c.call_id == calls.c.call_id,
        approvals.c.status == "pending",
    )
    unasked = ended.where(
        calls.c.state == "awaiting_approval", turns.c.state.not_in(ENDED), ~select(1).where(asked).exists()
    )
    return [
        *await find(connection, "tool_calls", unanswered, "{count} tool calls of ended turns have no result"),
        *await find(connection, "tool_calls", no_result, "{count} tool calls have ended without a result message"),
        *await find(connection, "tool_calls", unasked, "{count} tool calls wait for an approval that is not there"),
    ]


def _is_moot() -> ColumnElement[bool]:
    """The condition that a pending approval asks about nothing: its call, or its turn, does not wait for it."""
    waiting = (
        select(1)
        .join(turns, turns.c.db_id == calls.c.turn_db_id)
        .where(
            calls.c.session_db_id == approvals.c.session_db_id,
            calls.c.call_id == approvals.c.call_id,
            calls.c.state == "awaiting_approval",
            turns.c.state.not_in(ENDED),
        )
    )
    at_limit = select(1).where(turns.c.db_id == approvals.c.turn_db_id, turns.c.state == "waiting")
    asks = approvals.c.request_type
    wanted = or_(and_(asks == LIMIT, at_limit.exists()), and_(asks != LIMIT, waiting.exists()))
    return and_(approvals.c.status == "pending", not_(wanted))


async def _find_approvals(connection: AsyncConnection) -> list[Finding]:
    moot = select(literal("approval"), approvals.c.request_id).where(_is_moot())
    told = "{count} pending approvals ask about a call that does not wait for one"
    return await find(connection, "approvals", moot, told, repairable=True)


async def _cancel_approvals(connection: AsyncConnection) -> list[str]:
    change = update(approvals).where(_is_moot()).values(status="cancelled", decision_at=now())
    return did((await connection.execute(change)).rowcount, "cancelled {} approvals that asked about nothing")


CHECKS = (
    Check("turns", _find_active_turns),
    Check("leases", _find_leases),
    Check("messages", _find_streaming),
    Check("orphans", _find_lost_parts),
    Check("images", _find_images),
    Check("tool_calls", _find_calls),
    Check("approvals", _find_approvals, _cancel_approvals),
)
