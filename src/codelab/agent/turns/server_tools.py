"""The tools that codelab does itself: hand-overs, the plan, and the end of a task. Each inside one unit of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.agents import ORCHESTRATOR, UNIVERSAL
from codelab.agent.repository import messages, sessions, turns
from codelab.agent.tools import COMPLETE, SWITCH_MODE, UPDATE_PLAN
from codelab.db import new_id
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from codelab.agent.grants import Judged
    from codelab.agent.log import EventLog
    from codelab.agent.providers import ToolCall
    from codelab.db import Transaction

__all__ = ("MAX_HAND_OVERS", "Outcome", "conclude", "refuse_early_end", "run_here", "switch_agent")

#: Hand-overs by agents in one turn; two that cannot agree on whose task it is would go on for ever.
MAX_HAND_OVERS = 10


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call: a result for the model, or why there is none."""

    result: str | None = None
    error: str | None = None


async def switch_agent(
    log: EventLog,
    tx: Transaction,
    session: Row[Any],
    *,
    to_agent: str,
    reason: str,
    confidence: str | None,
    by: str,
) -> None:
    """Hand a session to another agent; ``by`` is ``router``, ``agent`` or ``user``."""
    await sessions.add_switch(tx.session, session, to_agent=to_agent, reason=reason, confidence=confidence, by=by)
    data = {
        "from_agent": session.current_agent,
        "to_agent": to_agent,
        "reason": reason,
        "confidence": confidence,
        "by": by,
    }
    await log.append(tx, session.db_id, ("agent.switched", data))
    actor = session.owner_id if by == "user" else None
    log.audit.record(tx, "agent_switched", owner_id=session.owner_id, session_id=session.id, actor_id=actor, **data)


async def run_here(
    log: EventLog, tx: Transaction, turn: Row[Any], call: Row[Any], arguments: dict[str, Any]
) -> Outcome:
    """Do what a call of one of ``SERVER_TOOLS`` asks for."""
    session = await sessions.find_by_key(tx.session, turn.session_db_id)
    assert session is not None
    match call.tool_name:
        case name if name == SWITCH_MODE:
            return await _hand_over(log, tx, session, turn, arguments)
        case name if name == UPDATE_PLAN:
            return await _update_plan(log, tx, session, turn, call, arguments)
        case name:
            assert name == COMPLETE
            return Outcome("The task is marked as complete.")


async def _hand_over(
    log: EventLog, tx: Transaction, session: Row[Any], turn: Row[Any], arguments: dict[str, Any]
) -> Outcome:
    mode = arguments["mode"]
    if mode == session.current_agent:
        return Outcome(error=f"You are the agent {mode} already.")
    if await turns.count_completed(tx.session, turn.db_id, SWITCH_MODE) >= MAX_HAND_OVERS:
        done = f"This task was handed over {MAX_HAND_OVERS} times already."
        return Outcome(error=f"{done} Do what you can of it, and say what is left.")
    reason = arguments.get("reason") or "Task requires different agent capabilities"
    await switch_agent(log, tx, session, to_agent=mode, reason=reason, confidence="medium", by="agent")
    return Outcome(f"Switched to {mode} agent")


async def _update_plan(
    log: EventLog, tx: Transaction, session: Row[Any], turn: Row[Any], call: Row[Any], arguments: dict[str, Any]
) -> Outcome:
    items = arguments["items"]
    await sessions.set_fields(tx.session, session.db_id, plan=canonical_json(items))
    data = {"turn_id": turn.id, "call_id": call.call_id, "items": items}
    await log.append(tx, session.db_id, ("plan.updated", data))
    return Outcome("The person sees the plan.")


def refuse_early_end(calls: Sequence[ToolCall], judged: list[Judged]) -> list[Judged]:
    """Deny the end of a task beside other calls: what they bring is not known yet."""
    if len(calls) < 2:
        return judged
    reason = f"Call {COMPLETE} alone, when every other call has its result."
    return [
        judgement._replace(verdict=msgspec.structs.replace(judgement.verdict, effect="deny", reason=reason))
        if call.name == COMPLETE and judgement.verdict.effect != "deny"
        else judgement
        for call, judgement in zip(calls, judged, strict=True)
    ]


async def conclude(log: EventLog, tx: Transaction, turn: Row[Any]) -> str | None:
    """Say the result of a task that its agent has just called complete; None where none was.

    The result becomes the agent's last message, whose id is returned, so that every client shows it. The session goes
    back to the orchestrator, and the next message is routed again.
    """
    call = await turns.find_last_call(tx.session, turn.db_id)
    session = await sessions.find_by_key(tx.session, turn.session_db_id)
    if session is None or call is None or call.tool_name != COMPLETE or call.state != "completed":
        return None
    message_id, text = new_id(), msgspec.json.decode(call.arguments)["result"]
    about = {"message_id": message_id, "turn_id": turn.id, "agent": call.agent, "model": call.model}
    completed = {"content": text, "reasoning": [], "status": "completed", "tool_calls": [], "usage": None}
    last = await log.append(
        tx, session.db_id, ("message.started", about), ("message.completed", about | completed), messages=1
    )
    await messages.add(
        tx.session,
        message_id=message_id,
        session_db_id=session.db_id,
        turn_db_id=turn.db_id,
        seq=last - 1,
        role="assistant",
        content=text,
        agent=call.agent,
        model=call.model,
    )
    if session.current_agent not in {ORCHESTRATOR, UNIVERSAL}:
        await switch_agent(
            log,
            tx,
            session,
            to_agent=ORCHESTRATOR,
            reason="The task is complete",
            confidence="high",
            by="router",
        )
    return message_id
