"""The only ways in which a turn changes, each inside one unit of work, each with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.grants import judge_calls
from codelab.agent.providers import ReasoningBuffer, ReasoningDelta
from codelab.agent.repository import approvals, events, messages, turns, usage
from codelab.agent.schemas import CallUsage, TotalUsage
from codelab.agent.turns.answer import REASONING
from codelab.agent.turns.calls import CallTransitions, unique_calls
from codelab.agent.turns.limits import CONTINUE_TURN, Spent
from codelab.agent.turns.server_tools import conclude, refuse_early_end
from codelab.agent.turns.steering import has_steering
from codelab.agent.turns.transcript import tool_calls_json
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.policy import Policy
    from codelab.agent.providers import ReasoningPart, ToolCall
    from codelab.agent.turns.answer import Answer
    from codelab.agent.turns.lease import Lease
    from codelab.agent.turns.limits import Reached, TurnLimits
    from codelab.db import Transaction

__all__ = ("Transitions",)


class Transitions:
    """Change turns; every method is called inside a transaction and appends its own events."""

    def __init__(
        self,
        log: EventLog,
        calls: CallTransitions,
        agents: Mapping[str, Agent],
        lease: Lease,
        policy: Policy,
        limits: TurnLimits,
    ) -> None:
        self._log = log
        self._calls = calls
        self._agents = agents
        self._policy = policy
        self._lease = lease
        self._limits = limits

    async def start(self, tx: Transaction, session: Row[Any], turn: Row[Any]) -> None:
        """Make a queued turn the running one."""
        await turns.start(tx.session, turn.db_id, self._lease.owner, self._lease.until)
        await self._log.append(tx, session.db_id, self.tell_start(session, turn))

    async def add(self, tx: Transaction, session: Row[Any], *, turn_id: str, message_id: str, runs: bool) -> Row[Any]:
        """Add a turn, queued or running at once; whoever adds one that ``runs`` appends ``tell_start``."""
        lease = (self._lease.owner, self._lease.until) if runs else None
        return await turns.add(
            tx.session, turn_id=turn_id, session_db_id=session.db_id, message_id=message_id, lease=lease
        )

    @staticmethod
    def tell_start(session: Row[Any], turn: Row[Any]) -> tuple[str, dict[str, Any]]:
        """The event that a turn runs."""
        data = {"turn_id": turn.id, "message_id": turn.message_id, "agent": session.current_agent}
        return ("turn.started", data)

    async def begin_answer(
        self,
        tx: Transaction,
        turn: Row[Any],
        *,
        agent: str,
        model: str,
        message_id: str,
        first: tuple[str, str],
        used: CallUsage | None,
    ) -> None:
        """Begin an answer with the first that is said or thought: the type of its event, and the text.

        ``used`` is what was reported so far; it counts when the answer is cut off, also by a kill.
        """
        kind, text = first
        delta = (kind, {"message_id": message_id, "offset": 0, "text": text})
        last = await self._log.append(tx, turn.session_db_id, self._started(turn, agent, model, message_id), delta)
        await self._add_answer(tx, turn, last - 1, agent, model, message_id)
        if used is not None:
            await messages.set_usage(tx.session, message_id, used)

    async def count_lost(self, tx: Transaction, turn: Row[Any], message_id: str, used: CallUsage | None) -> None:
        """Count a call that gave no answer: with its message where that still streams, else at once."""
        status = await messages.find_status(tx.session, message_id)
        if status is None:
            await usage.add(tx.session, turn_db_id=turn.db_id, session_db_id=turn.session_db_id, usage=used)
        elif status == "streaming" and used is not None:
            await messages.set_usage(tx.session, message_id, used)

    async def complete_answer(
        self, tx: Transaction, session: Row[Any], turn: Row[Any], answer: Answer, seconds: float
    ) -> bool:
        """Take a model's complete answer, ``seconds`` after its step began.

        Return whether the turn goes on at once (with another model call). Every call passes the gate. Those that are
        denied, and hand-overs, are answered here; the others wait for the client or for a person. Without calls the
        turn is completed, unless a message waits to join it. At a limit that has a turn of its own instead: nobody is
        asked whether a turn goes on that is done.
        """
        calls = await unique_calls(tx, session.db_id, answer.calls)
        agent = answer.agent  # a person may have switched the session meanwhile
        if not await self._end_answer(tx, answer, calls, seconds):  # one without text, of which nothing is written yet
            last = await self._log.append(
                tx, session.db_id, self._started(turn, agent, answer.model, answer.message_id)
            )
            await self._add_answer(tx, turn, last, agent, answer.model, answer.message_id)
            await self._end_answer(tx, answer, calls, seconds)
        foreign = await self._calls.foreign(tx, session.db_id) if calls else {}
        judged = await judge_calls(tx, self._policy, self._agents[agent], session, turn, calls, foreign)
        judged = refuse_early_end(calls, judged)
        completed = {
            "message_id": answer.message_id,
            "turn_id": turn.id,
            "agent": agent,
            "model": answer.model,
            "content": answer.text,
            "reasoning": _told(answer.reasoning),
            "status": "completed",
            "tool_calls": [
                {"call_id": call.id, "tool_name": call.name, "arguments": verdict.arguments}
                for call, (verdict, _) in zip(calls, judged, strict=True)
            ],
            "usage": answer.usage,
        }
        spent = Spent.of(turn).after(answer.usage, seconds)
        ends = not calls and not await self._is_joined(tx, turn, spent)
        fields = {"steps": spent.steps, "worked_ms": spent.worked_ms, **(turns.ended("completed") if ends else {})}
        used = await usage.add(
            tx.session, turn_db_id=turn.db_id, session_db_id=session.db_id, usage=answer.usage, **fields
        )
        done = {"turn_id": turn.id, "message_id": answer.message_id, "usage": TotalUsage.from_row(used)}
        new = [("message.completed", completed), *([("turn.completed", done)] if ends else [])]
        await self._log.append(tx, session.db_id, *new, messages=1)
        if not calls:
            return not ends
        for call, (verdict, approval_id) in zip(calls, judged, strict=True):
            await self._calls.admit(tx, session, turn, answer, call, verdict, approval_id=approval_id)
        return await self._wait_or_go_on(tx, turn)

    async def _is_joined(self, tx: Transaction, turn: Row[Any], spent: Spent) -> bool:
        """Tell whether a message joins a turn that would be done, and the turn may go on."""
        if not await has_steering(tx, turn):
            return False
        bounds = await self._limits.find_bounds(tx, turn.db_id, spent)
        return bounds.find_reached(spent) is None

    async def _wait_or_go_on(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Let a turn wait when calls are open; return whether it goes on."""
        open_calls = await turns.list_open_calls(tx.session, turn.db_id)
        if not open_calls:
            return not await self._conclude(tx, turn)
        pending = await approvals.list_pending(tx.session, turn.session_db_id)
        await self._wait(tx, turn, [call.call_id for call in open_calls], [row.request_id for row in pending])
        return False

    async def ask_to_go_on(self, tx: Transaction, session: Row[Any], turn: Row[Any], reached: Reached) -> None:
        """Let a running turn wait at a limit until a person decides whether it goes on."""
        approval_id = await self._calls.ask(
            tx,
            session,
            turn,
            session.current_agent,
            f"limit-{turn.id}-{reached.number}",
            CONTINUE_TURN,
            reached.arguments,
            reached.reason,
            approvals.LIMIT,
        )
        await self._wait(tx, turn, [], [approval_id])

    async def _wait(self, tx: Transaction, turn: Row[Any], call_ids: list[str], approval_ids: list[str]) -> None:
        await turns.wait(tx.session, turn.db_id)
        data = {"turn_id": turn.id, "call_ids": call_ids, "approval_ids": approval_ids}
        await self._log.append(tx, turn.session_db_id, ("turn.waiting", data))

    async def resume_when_answered(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Set a waiting turn running when its last open call was answered, or end it where its task is complete.

        Return whether the session has work now.
        """
        if await turns.list_open_calls(tx.session, turn.db_id):
            return False
        if await self._conclude(tx, turn):
            return True
        await turns.resume(tx.session, turn.db_id, self._lease.owner, self._lease.until)
        return True

    async def _conclude(self, tx: Transaction, turn: Row[Any]) -> bool:
        """End a turn whose agent has called its task complete, unless a message waits to join it."""
        message_id = None if await has_steering(tx, turn) else await conclude(self._log, tx, turn)
        if message_id is not None:
            await self._end(tx, turn, message_id)
        return message_id is not None

    async def _end(self, tx: Transaction, turn: Row[Any], message_id: str) -> None:
        used = await self._used(tx, turn)
        done = {"turn_id": turn.id, "message_id": message_id, "usage": used}
        await turns.end(tx.session, turn.db_id, "completed")
        await self._log.append(tx, turn.session_db_id, ("turn.completed", done))

    async def interrupt_answer(self, tx: Transaction, turn: Row[Any]) -> bool:
        """End an answer that was cut off: what was said stays, marked ``interrupted``, and no model sees it again.

        Return whether there was one; what it used is added to the turn then.
        """
        row = await messages.find_streaming(tx.session, turn.session_db_id, turn.db_id)
        if row is None:
            return False
        said, thought = _put_together(await events.said(tx.session, turn.session_db_id, row.id, row.seq))
        reasoning = canonical_json(thought) if thought else None
        await messages.complete(tx.session, row.id, status="interrupted", content=said, reasoning=reasoning)
        used = CallUsage.from_row(row)
        await usage.add(tx.session, turn_db_id=turn.db_id, session_db_id=turn.session_db_id, usage=used)
        data = {
            "message_id": row.id,
            "turn_id": turn.id,
            "agent": row.agent,
            "model": row.model,
            "content": said,
            "reasoning": _told(thought),
            "status": "interrupted",
            "tool_calls": [],
            "usage": used,
        }
        await self._log.append(tx, turn.session_db_id, ("message.completed", data), messages=1)
        return True

    async def fail(self, tx: Transaction, turn: Row[Any], code: str, error: str) -> None:
        """End a turn that cannot go on; the session stays usable."""
        await self._close(tx, turn, f"The turn failed: {error}")
        await turns.end(tx.session, turn.db_id, "failed", code=code, error=error)
        data = {"turn_id": turn.id, "code": code, "error": error, "usage": await self._used(tx, turn)}
        await self._log.append(tx, turn.session_db_id, ("turn.failed", data))

    async def cancel(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """End a turn that a person stopped: open calls are answered as cancelled, what was said stays."""
        await self._close(tx, turn, reason)
        await turns.end(tx.session, turn.db_id, "cancelled", error=reason)
        data = {"turn_id": turn.id, "reason": reason, "usage": await self._used(tx, turn)}
        await self._log.append(tx, turn.session_db_id, ("turn.cancelled", data))

    async def _close(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """Leave nothing open: no answer that streams, no approval that waits, no call without a result."""
        await self.interrupt_answer(tx, turn)
        rows = await approvals.list_pending(tx.session, turn.session_db_id)
        pending = {row.call_id: row for row in rows if row.turn_db_id == turn.db_id}
        for call in await turns.list_open_calls(tx.session, turn.db_id):
            if (row := pending.pop(call.call_id, None)) is not None:
                await self._calls.withdraw(tx, turn, row)
            await self._calls.answer(tx, turn, call, "cancelled", error=reason)
        for row in pending.values():  # about no call: whether the turn goes on
            await self._calls.withdraw(tx, turn, row)

    @staticmethod
    async def _used(tx: Transaction, turn: Row[Any]) -> TotalUsage | None:
        return TotalUsage.from_row(await usage.of_turn(tx.session, turn.db_id))

    @staticmethod
    def _started(turn: Row[Any], agent: str, model: str, message_id: str) -> tuple[str, dict[str, Any]]:
        data = {"message_id": message_id, "turn_id": turn.id, "agent": agent, "model": model}
        return ("message.started", data)

    @staticmethod
    async def _end_answer(tx: Transaction, answer: Answer, calls: Sequence[ToolCall], seconds: float) -> bool:
        return await messages.complete(
            tx.session,
            answer.message_id,
            status="completed",
            content=answer.text,
            usage=answer.usage,
            tool_calls=tool_calls_json(calls),
            reasoning=canonical_json(answer.reasoning) if answer.reasoning else None,
            token_count=answer.usage.output_tokens if answer.usage else None,
            duration_ms=round(seconds * 1000),
        )

    @staticmethod
    async def _add_answer(tx: Transaction, turn: Row[Any], seq: int, agent: str, model: str, message_id: str) -> None:
        await messages.add(
            tx.session,
            message_id=message_id,
            session_db_id=turn.session_db_id,
            turn_db_id=turn.db_id,
            seq=seq,
            role="assistant",
            status="streaming",
            agent=agent,
            model=model[:255],
        )


def _told(reasoning: Sequence[ReasoningPart]) -> list[dict[str, Any]]:
    """What clients are told of thoughts: the text; what only the provider can use stays here."""
    return [{"at": part.at, "text": part.text} for part in reasoning if part.text]


def _put_together(deltas: Sequence[tuple[str, str]]) -> tuple[str, tuple[ReasoningPart, ...]]:
    """Make the text and the thoughts of an answer from its deltas in the log."""
    said: list[str] = []
    length = 0
    thought = ReasoningBuffer()
    for kind, text in deltas:
        if kind == REASONING:
            thought.add(ReasoningDelta(text), length)
        else:
            said.append(text)
            length += len(text)
    return "".join(said), thought.parts()
