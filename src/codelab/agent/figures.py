"""What a person's sessions have done, in figures that the database has: they outlive every restart (W25)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.ownership import require_session
from codelab.agent.repository import incidents, metrics, sessions
from codelab.agent.schemas.metrics import (
    AuditLog,
    EventStats,
    Metrics,
    RequestMetrics,
    SessionMetrics,
    SessionsWithMetrics,
)
from codelab.db import now

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db import Database
    from codelab.identity import Principal

__all__ = ("FigureService",)

#: Model calls that are listed one by one, and sessions that are named.
LISTED = 1000
#: Entries of the audit log that one answer has at most.
MOST_ENTRIES = 10_000
_ENDED = ("completed", "failed", "rejected", "denied", "cancelled")


class FigureService:
    """Count what is kept; of another person's sessions nothing counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_session(self, principal: Principal, session_id: str) -> SessionMetrics:
        """Return the model calls of a session, in sum and one by one."""
        async with self._database.read() as db:
            key = (await require_session(db, principal, session_id)).db_id
            sums, failed = await metrics.count_requests(db, key)
            answered = await metrics.list_requests(db, key, LISTED)
            unanswered = await metrics.list_failed_turns(db, key, LISTED)
        requests = [*map(_answered, answered), *map(_unanswered, unanswered)]
        requests.sort(key=lambda request: request.timestamp)
        total, tokens = sums.answered + failed, int(sums.input_tokens + sums.output_tokens)
        return SessionMetrics(
            session_id=session_id,
            total_requests=total,
            successful_requests=int(sums.whole),
            failed_requests=total - int(sums.whole),
            total_duration_ms=int(sums.duration_ms),
            average_duration_ms=int(sums.duration_ms) / total if total else 0.0,
            total_prompt_tokens=int(sums.input_tokens),
            total_completion_tokens=int(sums.output_tokens),
            total_tokens=tokens,
            average_tokens_per_request=tokens / total if total else 0.0,
            requests_with_tools=sums.with_tools,
            requests=requests[-LISTED:],
        )

    async def of_person(self, principal: Principal) -> Metrics:
        """Return the figures of all sessions of a person."""
        async with self._database.read() as db:
            owner = principal.subject
            switches = {f"{row.from_agent}_to_{row.to_agent}": row.n for row in await metrics.count_switches(db, owner)}
            agents = {
                row.agent or "unknown": {
                    "count": row.n,
                    "total_duration_ms": int(row.duration_ms),
                    "success_count": int(row.whole),
                    "failure_count": row.n - int(row.whole),
                }
                for row in await metrics.calls_by_agent(db, owner)
            }
            tools = await _tools(db, owner)
            decided = {row.decision: row.n for row in await metrics.decisions(db, owner)}
            errors: dict[str, dict[str, int]] = {}
            for row in await metrics.failures(db, owner):
                errors.setdefault(row.current_agent, {})[row.error_code or "unknown"] = row.n
        computed = {
            f"{name}_avg_duration_ms": each["total_duration_ms"] / each["count"] for name, each in agents.items()
        }
        for name, tool in tools.items():
            if ran := tool["completed"] + tool["failed"]:
                computed[f"{name}_success_rate"] = tool["completed"] / ran
        counted = {
            "agent_switches": switches,
            "agent_processing": agents,
            "tool_executions": tools,
            "hitl_decisions": decided,
            "errors": errors,
        }
        return Metrics(metrics=counted, computed=computed, timestamp=now())

    async def sessions(self, principal: Principal) -> SessionsWithMetrics:
        """Name the sessions of a person in which a model was asked."""
        async with self._database.read() as db:
            ids = await metrics.list_with_requests(db, principal.subject, LISTED)
        return SessionsWithMetrics(ids, len(ids))

    async def stats(self, principal: Principal) -> EventStats:
        """Count the events of a person's sessions."""
        async with self._database.read() as db:
            total, newest = await sessions.count_events(db, principal.subject)
        return EventStats(total, total, 0, newest, 1.0)

    async def audit_log(
        self, principal: Principal, *, session_id: str | None, event_type: str | None, limit: int
    ) -> AuditLog:
        """Return the newest incidents, all of them with 0."""
        most = min(limit or MOST_ENTRIES, MOST_ENTRIES)
        kinds = incidents.KINDS if event_type is None else {event_type} & set(incidents.KINDS)
        entries: list[dict[str, Any]] = []
        async with self._database.read() as db:
            for kind in kinds:
                rows = await incidents.list_newest(db, kind, principal.subject, session_id, most)
                entries += [_entry(kind, row) for row in rows]
        entries.sort(key=lambda entry: (entry["timestamp"], entry["event_id"]))
        newest = entries[-most:]
        filters = {"session_id": session_id, "event_type": event_type, "limit": limit}
        return AuditLog(newest, len(newest), filters)


def _answered(row: Row[Any]) -> RequestMetrics:
    read, written, whole = row.input_tokens or 0, row.output_tokens or 0, row.status == "completed"
    return RequestMetrics(
        timestamp=row.timestamp,
        model=row.model,
        duration_ms=row.duration_ms or 0,
        prompt_tokens=read,
        completion_tokens=written,
        total_tokens=read + written,
        has_tool_calls=row.tool_calls is not None,
        success=whole,
        error=None if whole else row.error or "The answer was cut off.",
    )


def _unanswered(row: Row[Any]) -> RequestMetrics:
    return RequestMetrics(row.ended_at, None, 0, 0, 0, 0, has_tool_calls=False, success=False, error=row.error)


async def _tools(db: AsyncSession, owner: str) -> dict[str, dict[str, int]]:
    tools: dict[str, dict[str, int]] = {}
    for row in await metrics.calls_by_tool(db, owner):
        tool = tools.setdefault(row.tool_name, dict.fromkeys(("requested", *_ENDED, "requires_approval"), 0))
        tool["requested"] += row.n
        if row.state in _ENDED:
            tool[row.state] += row.n
    for row in await metrics.approvals_by_tool(db, owner):
        if row.tool_name in tools:
            tools[row.tool_name]["requires_approval"] = row.n
    return tools


def _entry(kind: str, row: Row[Any]) -> dict[str, Any]:
    facts = dict(row._mapping)  # noqa: SLF001 - its name in the documentation
    at, session_id, event_id = facts.pop("at"), facts.pop("session_id"), facts.pop("event_id")
    if "arguments" in facts:
        facts["arguments"] = msgspec.json.decode(facts["arguments"])
    known = {"timestamp": at, "event_type": kind, "event_id": event_id, "session_id": session_id}
    return known | {"correlation_id": None} | facts
