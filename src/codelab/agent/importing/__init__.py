"""Import sessions that another system kept, as if their turns had been run here.

The rows and events are those that ``turns/transitions.py`` and ``turns/calls.py`` would have written, with the times of
then; ``SessionRows`` builds them, this module decides what is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from codelab.agent.agents import load_agents
from codelab.agent.importing.log import known_agent
from codelab.agent.importing.rows import SessionRows
from codelab.agent.ownership import PUBLIC_ID
from codelab.agent.repository import importing
from codelab.agent.repository.inbox import number_later
from codelab.import_records import AnswerRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.db import Transaction
    from codelab.import_records import SessionRecord, Tally

__all__ = ("fits_session_id", "import_sessions")


def fits_session_id(text: str) -> bool:
    """Tell whether a text can be the public id of a session."""
    return re.fullmatch(PUBLIC_ID, text) is not None


async def import_sessions(tx: Transaction, sessions: AsyncIterator[SessionRecord], tally: Tally, owner_id: str) -> None:
    """Write sessions of a person in this transaction; one that is there already is left as it is."""
    async for record in sessions:
        if await importing.is_imported(tx.session, record.context_ids):
            _count_rows(tally, record, "already_there")
            continue
        live = record.deleted_at is None
        if live and await importing.has_live_session(tx.session, owner_id, record.id):
            _count_rows(tally, record, "skipped")
            tally.skip("sessions", record.reference_id[:100], "its owner has another session of that id", rows=0)
            continue
        await _write(tx, record, tally, owner_id)
        _count_rows(tally, record, "imported")


def _count_rows(tally: Tally, record: SessionRecord, outcome: str) -> None:
    for kind, rows in {"sessions": 1, **record.rows}.items():
        left = sum(note.kind == kind for note in record.left_out) if outcome == "imported" else 0
        count = tally.of(kind)
        setattr(count, outcome, getattr(count, outcome) + rows - left)
    if outcome == "imported":
        tally.repairs.extend(record.repairs)
        for note in record.left_out:
            tally.skip(note.kind, note.where, note.what)


async def _write(tx: Transaction, record: SessionRecord, tally: Tally, owner_id: str) -> None:
    agents = load_agents()
    rows = SessionRows(record, agents, await _taken(tx, record))
    rows.build()
    tally.repairs.extend(rows.repairs)
    agent = known_agent(record.current_agent, agents)
    if agent != record.current_agent:
        what = f"its agent {record.current_agent[:40]} is not known here; it is {agent} now"
        tally.mend("agent_contexts", record.reference_id[:100], what)
    session: dict[str, Any] = {
        "id": record.id,
        "owner_id": owner_id,
        "title": record.title,
        "description": record.description,
        "created_at": record.created_at,
        "updated_at": record.last_activity,
        "last_activity": record.last_activity,
        "is_active": record.is_active,
        "deleted_at": record.deleted_at,
        "metadata_json": {} if record.id == record.reference_id else {"reference_id": record.reference_id[:1000]},
        "message_count": len(rows.messages),
        "last_seq": len(rows.events),
        # What its calls cost was not kept.
        "unpriced_calls": 1 if rows.messages else None,
    }
    context = {
        "id": record.context_ids[0],
        "current_agent": agent,
        "created_at": record.context_created_at,
        "updated_at": record.context_updated_at,
        "switch_count": record.switch_count,
    }
    session_db_id = await importing.add_session(tx.session, session, context)
    owned = {"session_db_id": session_db_id}
    keys = await importing.add_turns(tx.session, [owned | turn for turn in rows.turns])
    for row in (*rows.messages, *rows.calls, *rows.approvals):
        row.update(owned, turn_db_id=keys[row["turn_db_id"]])
    await importing.add_rows(tx.session, "messages", rows.messages)
    await importing.add_rows(tx.session, "tool_calls", rows.calls)
    for row in rows.approvals:
        row["owner_id"] = owner_id
        number_later(tx.session, owner_id, row["request_id"])
    await importing.add_rows(tx.session, "pending_approvals", rows.approvals)
    await importing.add_rows(tx.session, "session_events", [owned | event for event in rows.events])
    await importing.add_rows(tx.session, "agent_switches", rows.switches(record.context_ids[0]))


async def _taken(tx: Transaction, record: SessionRecord) -> set[str]:
    """Return which ids of a session something else here has already."""
    messages, approvals = set[str](), set[str]()
    for turn in record.turns:
        messages |= {turn.message_id, *(step.message_id for step in turn.steps)}
        calls = [call for step in turn.steps if isinstance(step, AnswerRecord) for call in step.calls]
        messages |= {call.result.message_id for call in calls if call.result and call.result.message_id}
        approvals |= {call.approval.id for call in calls if call.approval}
    return (
        await importing.taken_ids(tx.session, "messages", "id", messages)
        | await importing.taken_ids(tx.session, "pending_approvals", "request_id", approvals)
        | await importing.taken_ids(tx.session, "agent_switches", "id", {switch.id for switch in record.switches})
    )
