"""The rules that the log and the numbers drawn from it keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, insert, literal, not_, select, update

from codelab.agent.repository.checks.common import did, find
from codelab.agent.repository.tables import counters, events, folded, messages, sessions
from codelab.storage import Check

if TYPE_CHECKING:
    from sqlalchemy import CTE, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from codelab.storage import Finding

__all__ = ("CHECKS",)


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
    found = await find(connection, "events", lost, "{count} gaps in the event log: events were lost")
    newest = _newest()
    cut = select(
        literal("session"), sessions.c.id, literal("ends at seq"), newest, literal("of"), sessions.c.last_seq
    ).where(sessions.c.last_seq > newest)
    found += await find(connection, "events", cut, "{count} event logs end too early: their newest events are lost")
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
    return found + await find(connection, "events", holes, told)


def _newest() -> ColumnElement[int]:
    found = select(func.max(events.c.seq)).where(events.c.session_db_id == sessions.c.db_id).scalar_subquery()
    return func.coalesce(found, 0)


async def _find_last_seq(connection: AsyncConnection) -> list[Finding]:
    newest = _newest()
    behind = select(literal("session"), sessions.c.id, literal("has"), sessions.c.last_seq, literal("not"), newest)
    told = "{count} sessions have a last_seq below their newest event: they take no event any more"
    return await find(connection, "last_seq", behind.where(sessions.c.last_seq < newest), told, repairable=True)


async def _raise_last_seq(connection: AsyncConnection) -> list[str]:
    # Never lowered: a number that a client has seen must not be given to another event.
    newest = _newest()
    change = update(sessions).where(sessions.c.last_seq < newest).values(last_seq=newest)
    return did((await connection.execute(change)).rowcount, "set last_seq of {} sessions to their newest event")


# Counters


def _counted() -> ColumnElement[int]:
    there = and_(messages.c.session_db_id == sessions.c.db_id, messages.c.status != "streaming")
    return select(func.count()).select_from(messages).where(there).scalar_subquery()


async def _find_message_count(connection: AsyncConnection) -> list[Finding]:
    counted = _counted()
    says = sessions.c.message_count
    wrong = select(literal("session"), sessions.c.id, literal("says"), says, literal("has"), counted)
    told = "{count} sessions have another message_count than messages"
    return await find(connection, "message_count", wrong.where(says != counted), told, repairable=True)


async def _set_message_count(connection: AsyncConnection) -> list[str]:
    counted = _counted()
    change = update(sessions).where(sessions.c.message_count != counted).values(message_count=counted)
    return did((await connection.execute(change)).rowcount, "counted the messages of {} sessions again")


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
    return await find(connection, "session_counters", _wrong_counters(), told, repairable=True)


async def _set_counters(connection: AsyncConnection) -> list[str]:
    wrong = (await connection.execute(_wrong_counters())).all()
    for _, owner, _, _, _, counted in wrong:
        changed = update(counters).where(counters.c.owner_id == owner).values(live_sessions=counted)
        if not (await connection.execute(changed)).rowcount:
            await connection.execute(insert(counters).values(owner_id=owner, live_sessions=counted))
    return did(len(wrong), "counted the sessions of {} people again")


CHECKS = (
    Check("events", _find_gaps),
    Check("last_seq", _find_last_seq, _raise_last_seq),
    Check("message_count", _find_message_count, _set_message_count),
    Check("session_counters", _find_counters, _set_counters),
)
