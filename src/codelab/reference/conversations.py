"""Sessions of the reference's agent-runtime as records, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from codelab.db import now
from codelab.import_records import ApprovalRecord, Note, SessionRecord, SwitchRecord, Tally, derived_id
from codelab.reference.transcript import Transcript
from codelab.reference.values import as_bool, as_id, as_json, as_number, as_text, as_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from codelab.reference.source import Row, Source

__all__ = ("Conversations",)

_ORCHESTRATOR = "orchestrator"
_STATUSES = {"pending": "pending", "approved": "approved", "rejected": "rejected"}
#: What belongs to no session: kind, and what is true of it.
_ORPHANS = {
    "messages": "session_db_id NOT IN (SELECT id FROM sessions)",
    "agent_contexts": "session_db_id NOT IN (SELECT id FROM sessions)",
    "agent_switches": (
        "context_db_id NOT IN (SELECT c.id FROM agent_contexts c JOIN sessions s ON s.id = c.session_db_id)"
    ),
    "pending_approvals": "session_id NOT IN (SELECT id FROM sessions)",
}


class Conversations:
    """Read the agent database."""

    def __init__(self, source: Source, fits: Callable[[str], bool]) -> None:
        self._source = source
        self._fits = fits

    async def count(self, tally: Tally) -> None:
        """Count what there is, and what belongs to no session."""
        tally.of("sessions")
        for kind, condition in _ORPHANS.items():
            counted = f"SELECT count(*) AS n FROM {kind}"  # noqa: S608 - our own names
            (total,) = await self._source.rows(counted)
            tally.of(kind).read = total["n"]
            (orphans,) = await self._source.rows(f"{counted} WHERE {condition}")
            if orphans["n"]:
                tally.skip(kind, f"{orphans['n']} of them", "they belong to no session", rows=orphans["n"])

    async def sessions(self, tally: Tally) -> AsyncIterator[SessionRecord]:
        """Yield all sessions, the oldest first."""
        for row in await self._source.rows("SELECT * FROM sessions ORDER BY created_at, id"):
            tally.of("sessions").read += 1
            yield await self._session(row)

    async def _session(self, row: Row) -> SessionRecord:
        key = row["id"]
        original = as_text(key) or ""
        repairs: list[Note] = []
        session_id = original
        created = as_time(row["created_at"]) or as_time(row["last_activity"]) or now()
        if not self._fits(original):
            session_id = derived_id("session", original, created.isoformat())
            what = f"its id cannot be used in a URL; it is {session_id} now"
            repairs.append(Note(kind="sessions", where=original[:100], what=what))
        messages = await self._source.rows(
            f"SELECT * FROM messages WHERE session_db_id = $1 ORDER BY {self._source.place}",  # noqa: S608 - our own
            key,
        )
        transcript = Transcript(original[:100])
        for position, (message, at) in enumerate(_in_order(messages, created)):
            transcript.add(message, at, position)
        asked = await self._source.rows(
            "SELECT * FROM pending_approvals WHERE session_id = $1 ORDER BY created_at, id", key
        )
        left_out = [note for approval in asked if (note := _attach(transcript, approval, original[:100], created))]
        deleted_at = as_time(row["deleted_at"])
        turns = transcript.turns(may_wait=deleted_at is None)
        contexts = await self._source.rows("SELECT * FROM agent_contexts WHERE session_db_id = $1", key)
        context = contexts[0] if contexts else None
        switches = await self._switches(context, messages)
        made_up = derived_id("context", original, created.isoformat())
        context_id = as_id(context["id"]) if context else None
        return SessionRecord(
            id=session_id,
            reference_id=original,
            title=(as_text(row["title"]) or "")[:500] or None,
            description=as_text(row["description"]),
            created_at=created,
            last_activity=as_time(row["last_activity"]) or created,
            is_active=as_bool(row["is_active"], default=True) and deleted_at is None,
            deleted_at=deleted_at,
            context_ids=(context_id, made_up) if context_id else (made_up,),
            current_agent=(as_text(context["current_agent"]) if context else None) or _ORCHESTRATOR,
            switch_count=as_number(context["switch_count"], len(switches), 0, 2**31 - 1) if context else 0,
            context_created_at=(as_time(context["created_at"]) if context else None) or created,
            context_updated_at=(as_time(context["updated_at"]) if context else None) or created,
            turns=turns,
            switches=switches,
            rows={
                "messages": len(messages),
                "agent_contexts": 1 if context else 0,
                "agent_switches": len(switches),
                "pending_approvals": len(asked),
            },
            repairs=(*repairs, *transcript.repairs),
            left_out=tuple(left_out),
        )

    async def _switches(self, context: Row | None, messages: list[Row]) -> tuple[SwitchRecord, ...]:
        if context is None:
            return ()
        query = "SELECT * FROM agent_switches WHERE context_db_id = $1 ORDER BY switched_at, id"
        asked_by_agents = _modes(messages)
        switches = []
        for number, row in enumerate(await self._source.rows(query, context["id"])):
            from_agent, to_agent = as_text(row["from_agent"]), as_text(row["to_agent"]) or _ORCHESTRATOR
            reason = as_text(row["reason"])
            extra = as_json(row.get("metadata_json"))
            confidence = extra.get("confidence") if isinstance(extra, dict) else None
            by: Literal["router", "agent", "user"] = "user"
            if (reason or "").startswith("User requested"):
                by = "user"
            elif to_agent in asked_by_agents and from_agent != _ORCHESTRATOR:
                asked_by_agents.remove(to_agent)
                by = "agent"
            elif from_agent in {None, _ORCHESTRATOR}:
                by = "router"
            switches.append(
                SwitchRecord(
                    id=as_id(row["id"]) or derived_id("switch", str(context["id"]), str(number)),
                    from_agent=from_agent[:100] if from_agent else None,
                    to_agent=to_agent[:100],
                    at=as_time(row["switched_at"]) or as_time(context["created_at"]) or now(),
                    reason=reason,
                    confidence=str(confidence)[:20] if confidence else None,
                    by=by,
                )
            )
        return tuple(switches)


def _in_order(messages: list[Row], created: datetime) -> list[tuple[Row, datetime]]:
    """Order messages by time, those of one time as they were written; an unreadable time is that of the one before."""
    timed: list[tuple[Row, datetime]] = []
    for row in messages:
        timed.append((row, as_time(row["timestamp"]) or (timed[-1][1] if timed else created)))
    return sorted(timed, key=lambda pair: pair[1])


def _modes(messages: list[Row]) -> list[str]:
    """List the agents that agents asked for with switch_mode."""
    modes: list[str] = []
    for row in messages:
        calls = as_json(row["tool_calls"]) if row["tool_calls"] else None
        for call in calls if isinstance(calls, list) else ():
            function: Any = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and function.get("name") == "switch_mode":
                arguments = as_json(function.get("arguments"))
                if isinstance(arguments, dict):
                    modes.append(str(arguments.get("mode")))
    return modes


def _attach(transcript: Transcript, row: Row, session: str, created: datetime) -> Note | None:
    """Give an approval to its call; a note where it is left out."""
    approval_id = as_id(row["id"])
    where = f"{session} {approval_id or 'an approval'}"
    if as_text(row["request_type"]) != "tool":
        kind = (as_text(row["request_type"]) or "NULL")[:50]
        return Note(kind="pending_approvals", where=where, what=f"it is about a {kind}, not about a tool")
    status = _STATUSES.get(as_text(row["status"]) or "")
    arguments = as_json(row["arguments"])
    if approval_id is None or status is None or not isinstance(arguments, dict):
        return Note(kind="pending_approvals", where=where, what="it cannot be read")
    at = as_time(row["created_at"]) or created
    call_id = as_text(row["call_id"]) or as_text(row["request_id"]) or ""
    approval = ApprovalRecord(
        id=approval_id,
        arguments=arguments,
        reason=as_text(row["reason"]),
        status=status,  # type: ignore[arg-type]  # a value of _STATUSES
        created_at=at,
        decided_at=None if status == "pending" else as_time(row["decision_at"]) or at,
        feedback=as_text(row["decision_reason"]),
    )
    if transcript.attach(call_id, approval):
        return None
    return Note(kind="pending_approvals", where=where, what=f"its call {call_id[:60]} is not in the session")
