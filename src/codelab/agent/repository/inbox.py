"""SQL of the approvals of a person across their sessions, in the order of their changes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, bindparam, case, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from codelab.agent.repository.tables import approvals, counters, sessions
from codelab.db.writer import before_commit

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("changes_after", "find_any", "last_change", "list_all", "list_own", "number_later")


_SELECT: Select[Any] = select(approvals, sessions.c.id.label("session_id")).join(
    sessions, sessions.c.db_id == approvals.c.session_db_id
)
_AFTER = (
    _SELECT.where(approvals.c.owner_id == bindparam("owner"), approvals.c.inbox_seq > bindparam("seen"))
    .order_by(approvals.c.inbox_seq)
    .limit(bindparam("count"))
)
_LAST = select(func.coalesce(func.max(approvals.c.inbox_seq), 0)).where(approvals.c.owner_id == bindparam("owner"))
_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _count_with(make: Any) -> Any:
    counted = make(counters)
    return counted.on_conflict_do_update(
        index_elements=[counters.c.owner_id],
        set_={"inbox_seq": _at_least(counters.c.inbox_seq, bindparam("known")) + bindparam("more")},
    ).returning(counters.c.inbox_seq)


def _at_least(number: Any, least: Any) -> Any:
    return case((number < least, least), else_=number)


_COUNT = {name: _count_with(make) for name, make in _INSERTS.items()}
_NUMBER = update(approvals).where(approvals.c.request_id == bindparam("request")).values(inbox_seq=bindparam("number"))


def number_later(db: AsyncSession, owner_id: str, request_id: str) -> None:
    """Give a changed approval of a person their next number, at the end of the transaction."""
    before_commit(db, number_later, _number).append((owner_id, request_id))


async def _number(db: AsyncSession, changes: list[tuple[str, str]]) -> None:
    changed: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for owner_id, request_id in changes:
        changed[owner_id].pop(request_id, None)  # its last change counts
        changed[owner_id][request_id] = None
    rows: list[dict[str, Any]] = []
    count = _COUNT[str(db.get_bind().dialect.name)]
    # In one order, so that two processes never wait for each other.
    for owner_id, requests in sorted(changed.items()):
        # Rows that came from another database may be numbered beyond what was counted here.
        known = (await db.execute(_LAST, {"owner": owner_id})).scalar_one()
        more = {"inbox_seq": known + len(requests), "known": known, "more": len(requests)}
        values = {"owner_id": owner_id, "live_sessions": 0, **more}
        last: int = (await db.execute(count, values)).scalar_one()
        first = last - len(requests) + 1
        rows += [{"request": request, "number": number} for number, request in enumerate(requests, start=first)]
    await db.execute(_NUMBER, rows)


async def last_change(db: AsyncSession, owner_id: str) -> int:
    """Return the number of the last change of a person's approvals, 0 where there is none."""
    found = await db.execute(select(counters.c.inbox_seq).where(counters.c.owner_id == owner_id))
    known: int = (await db.execute(_LAST, {"owner": owner_id})).scalar_one()
    return max(found.scalar_one_or_none() or 0, known)


async def changes_after(db: AsyncSession, owner_id: str, after: int, limit: int) -> list[Row[Any]]:
    """Return a person's approvals that changed after a number, as they are now, in the order of their last change."""
    return list(await db.execute(_AFTER, {"owner": owner_id, "seen": after, "count": limit}))


async def list_own(
    db: AsyncSession, owner_id: str, *, status: str | None, before: int | None, limit: int
) -> list[Row[Any]]:
    """Return the approvals of a person's live sessions, the last changed first."""
    statement = _SELECT.where(approvals.c.owner_id == owner_id, sessions.c.deleted_at.is_(None))
    if status is not None:
        statement = statement.where(approvals.c.status == status)
    if before is not None:
        statement = statement.where(approvals.c.inbox_seq < before)
    found = await db.execute(statement.order_by(approvals.c.inbox_seq.desc()).limit(limit))
    return list(found)


async def list_all(db: AsyncSession, *, status: str | None, before: str | None, limit: int) -> list[Row[Any]]:
    """Return the approvals of all live sessions, the newest first; ``before`` is the ``id`` of the last seen."""
    statement = _SELECT.where(sessions.c.deleted_at.is_(None))
    if status is not None:
        statement = statement.where(approvals.c.status == status)
    if before is not None:
        statement = statement.where(approvals.c.id < before)
    return list(await db.execute(statement.order_by(approvals.c.id.desc()).limit(limit)))


async def find_any(db: AsyncSession, request_id: str) -> Row[Any] | None:
    """Return an approval of anybody's live session."""
    found = await db.execute(_SELECT.where(approvals.c.request_id == request_id, sessions.c.deleted_at.is_(None)))
    row: Row[Any] | None = found.first()
    return row
