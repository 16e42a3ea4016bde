"""The rules that the rows of module ``agent`` keep, for ``codelab db check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, and_, exists, func, insert, literal, not_, or_, select, update

from codelab.agent.models import (
    AgentContext,
    FoldedRange,
    Message,
    MessageImage,
    PendingApproval,
    Session,
    SessionCounter,
    SessionEvent,
    ToolCall,
    Turn,
)
from codelab.agent.repository.approvals import LIMIT
from codelab.db import now
from codelab.storage import Check, Finding

if TYPE_CHECKING:
    from sqlalchemy import CTE, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("CHECKS",)

sessions = cast("Table", Session.__table__)
counters = cast("Table", SessionCounter.__table__)
events = cast("Table", SessionEvent.__table__)
turns = cast("Table", Turn.__table__)
messages = cast("Table", Message.__table__)
images = cast("Table", MessageImage.__table__)
calls = cast("Table", ToolCall.__table__)
approvals = cast("Table", PendingApproval.__table__)
folded = cast("Table", FoldedRange.__table__)
contexts = cast("Table", AgentContext.__table__)

#: Rows that one finding names at most.
NAMED = 10
ENDED = ("completed", "failed", "cancelled")
OPEN_CALLS = ("awaiting_approval", "requested")


async def _find(
    connection: AsyncConnection, check: str, statement: Select[Any], told: str, *, repairable: bool = False
) -> list[Finding]:
    """Make one finding of the rows of a statement; each row is the parts of a name."""
    count = (await connection.execute(select(func.count()).select_from(statement.subquery()))).scalar_one()
    if not count:
        return []
    rows = tuple(" ".join(map(str, row)) for row in await connection.execute(statement.limit(NAMED)))
    detail = told.format(count=count)
    return [Finding(check=check, severity="fault", detail=detail, rows=rows, repairable=repairable)]


# The log


def _gaps() -> CTE:
    """Every run of missing ``seq`` below a session's newest event: ``first`` to ``last``."""
    before = func.lag(events.c.seq, 1, 0).over(partition_by=events.c.session_db_id, order_by=events.c.seq)
    pairs = select(events.c.session_db_id, events.c.seq, before.label("before")).cte("pairs")
    return (
        select(pairs.c.session_db_id, (pairs.c.before + 1).label("first"), (pairs.c.seq - 1).label("last"))
        .where(pairs.c.seq > pairs.c.before + 1)
        .cte("gaps")
    )


def _is_folded(gaps: CTE) -> ColumnElement[bool]:
    """The condition that a gap lies in the deltas that were folded away; no gap spans two messages."""
    inside = (folded.c.first_seq <= gaps.c.first) & (gaps.c.last <= folded.c.last_seq)
    return exists().where(folded.c.session_db_id == gaps.c.session_db_id, inside)


async def _find_gaps(connection: AsyncConnection) -> list[Finding]:
    gaps = _gaps()
    lost = (
        select(literal("session"), sessions.c.id, literal("seq"), gaps.c.first, literal("to"), gaps.c.last)
        .join(sessions, sessions.c.db_id == gaps.c.session_db_id)
        .where(not_(_is_folded(gaps)))
    )
    found = await _find(connection, "events", lost, "{count} gaps in the event log: events were lost")
    newest = _newest()
    cut = select(
        literal("session"), sessions.c.id, literal("ends at seq"), newest, literal("of"), sessions.c.last_seq
    ).where(sessions.c.last_seq > newest)
    found += await _find(connection, "events", cut, "{count} event logs end too early: their newest events are lost")
    there = (
        select(func.count())
        .select_from(events)
        .where(
            events.c.session_db_id == folded.c.session_db_id,
            events.c.seq.between(folded.c.first_seq, folded.c.last_seq),
        )
        .scalar_subquery()
    )
    missing = folded.c.last_seq - folded.c.first_seq + 1 - there
    holes = (
        select(literal("session"), sessions.c.id, literal("seq"), folded.c.first_seq, literal("to"), folded.c.last_seq)
        .join(sessions, sessions.c.db_id == folded.c.session_db_id)
        .where(missing > folded.c.deltas)
    )
    told = "{count} folded ranges lack more events than were folded: events were lost"
    return found + await _find(connection, "events", holes, told)


def _newest() -> ColumnElement[int]:
    found = select(func.max(events.c.seq)).where(events.c.session_db_id == sessions.c.db_id).scalar_subquery()
    return func.coalesce(found, 0)


async def _find_last_seq(connection: AsyncConnection) -> list[Finding]:
    newest = _newest()
    behind = select(literal("session"), sessions.c.id, literal("has"), sessions.c.last_seq, literal("not"), newest)
    told = "{count} sessions have a last_seq below their newest event: they take no event any more"
    return await _find(connection, "last_seq", behind.where(sessions.c.last_seq < newest), told, repairable=True)


async def _raise_last_seq(connection: AsyncConnection) -> list[str]:
    # Never lowered: a number that a client has seen must not be given to another event.
    newest = _newest()
    change = update(sessions).where(sessions.c.last_seq < newest).values(last_seq=newest)
    return _did((await connection.execute(change)).rowcount, "set last_seq of {} sessions to their newest event")


# Counters


def _counted() -> ColumnElement[int]:
    there = and_(messages.c.session_db_id == sessions.c.db_id, messages.c.status != "streaming")
    return select(func.count()).select_from(messages).where(there).scalar_subquery()


async def _find_message_count(connection: AsyncConnection) -> list[Finding]:
    counted = _counted()
    says = sessions.c.message_count
    wrong = select(literal("session"), sessions.c.id, literal("says"), says, literal("has"), counted)
    told = "{count} sessions have another message_count than messages"
    return await _find(connection, "message_count", wrong.where(says != counted), told, repairable=True)


async def _set_message_count(connection: AsyncConnection) -> list[str]:
    counted = _counted()
    change = update(sessions).where(sessions.c.message_count != counted).values(message_count=counted)
    return _did((await connection.execute(change)).rowcount, "counted the messages of {} sessions again")


def _live() -> CTE:
    there = select(sessions.c.owner_id, func.count().label("live")).where(sessions.c.deleted_at.is_(None))
    return there.group_by(sessions.c.owner_id).cte("live")


def _wrong_counters() -> Select[Any]:
    live = _live()
    counted = func.coalesce(live.c.live, 0)
    says = func.coalesce(counters.c.live_sessions, 0)
    owners = select(counters.c.owner_id).union(select(live.c.owner_id)).cte("owners")
    return (
        select(literal("owner"), owners.c.owner_id, literal("says"), says, literal("has"), counted)
        .outerjoin(counters, counters.c.owner_id == owners.c.owner_id)
        .outerjoin(live, live.c.owner_id == owners.c.owner_id)
        .where(says != counted)
    )


async def _find_counters(connection: AsyncConnection) -> list[Finding]:
    told = "{count} people have another number of sessions than their counter says"
    return await _find(connection, "session_counters", _wrong_counters(), told, repairable=True)


async def _set_counters(connection: AsyncConnection) -> list[str]:
    wrong = (await connection.execute(_wrong_counters())).all()
    for _, owner, _, _, _, counted in wrong:
        changed = update(counters).where(counters.c.owner_id == owner).values(live_sessions=counted)
        if not (await connection.execute(changed)).rowcount:
            await connection.execute(insert(counters).values(owner_id=owner, live_sessions=counted))
    return _did(len(wrong), "counted the sessions of {} people again")


def _did(rows: int, sentence: str) -> list[str]:
    return [sentence.format(rows)] if rows else []


# Turns, messages, calls, approvals


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
        *await _find(connection, "turns", several, "{count} sessions have more than one active turn"),
        *await _find(connection, "turns", stuck, "{count} turns wait for nothing; a cancel ends them"),
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
    return await _find(connection, "messages", open_ended, "{count} messages of ended turns are still streaming")


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
        *await _find(connection, "orphans", without_question, "{count} turns have lost the message that began them"),
        *await _find(connection, "orphans", without_answer, "{count} tool calls have lost the message that made them"),
        *await _find(connection, "orphans", without_context, "{count} sessions have no agent and cannot be opened"),
        *await _find(connection, "orphans", elsewhere, "{count} messages belong to a turn of another session"),
    ]


async def _find_images(connection: AsyncConnection) -> list[Finding]:
    """Messages tell their images, each with its digest; the bytes are in a table of their own."""
    there = select(func.count()).where(images.c.message_id == messages.c.id).scalar_subquery()
    name = '"sha256"'
    told = func.length(messages.c.images) - func.length(func.replace(messages.c.images, name, ""))
    lost = select(literal("message"), messages.c.id).where(func.coalesce(told, 0) != there * len(name))
    return await _find(connection, "images", lost, "{count} messages tell of other images than there are")


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
        *await _find(connection, "tool_calls", unanswered, "{count} tool calls of ended turns have no result"),
        *await _find(connection, "tool_calls", no_result, "{count} tool calls have ended without a result message"),
        *await _find(connection, "tool_calls", unasked, "{count} tool calls wait for an approval that is not there"),
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
    return await _find(connection, "approvals", moot, told, repairable=True)


async def _cancel_approvals(connection: AsyncConnection) -> list[str]:
    change = update(approvals).where(_is_moot()).values(status="cancelled", decision_at=now())
    return _did((await connection.execute(change)).rowcount, "cancelled {} approvals that asked about nothing")


CHECKS = (
    Check("events", _find_gaps),
    Check("last_seq", _find_last_seq, _raise_last_seq),
    Check("message_count", _find_message_count, _set_message_count),
    Check("session_counters", _find_counters, _set_counters),
    Check("turns", _find_active_turns),
    Check("leases", _find_leases),
    Check("messages", _find_streaming),
    Check("orphans", _find_lost_parts),
    Check("images", _find_images),
    Check("tool_calls", _find_calls),
    Check("approvals", _find_approvals, _cancel_approvals),
)
