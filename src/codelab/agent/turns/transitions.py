"""The only ways in which a turn changes, each inside one unit of work, each with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.grants import judge_calls
from codelab.agent.repository import approvals, events, messages, turns
from codelab.agent.turns.calls import CallTransitions, unique_calls
from codelab.agent.turns.steering import has_steering
from codelab.agent.turns.transcript import tool_calls_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.policy import Policy
    from codelab.agent.turns.answer import Answer
    from codelab.agent.turns.lease import Lease
    from codelab.db import Transaction

__all__ = ("Transitions",)


class Transitions:
    """Change turns; every method is called inside a transaction and appends its own events."""

    def __init__(
        self, log: EventLog, calls: CallTransitions, agents: Mapping[str, Agent], lease: Lease, policy: Policy
    ) -> None:
        self._log = log
        self._calls = calls
        self._agents = agents
        self._policy = policy
        self._lease = lease

    async def start(self, tx: Transaction, session: Row[Any], turn: Row[Any]) -> None:
        """Make a queued turn the running one."""
        await turns.start(tx.session, turn.db_id, self._lease.owner, self._lease.until)
        data = {"turn_id": turn.id, "message_id": turn.message_id, "agent": session.current_agent}
        await self._log.append(tx, session.db_id, ("turn.started", data))

    async def begin_answer(
        self, tx: Transaction, turn: Row[Any], *, agent: str, model: str, message_id: str, text: str
    ) -> None:
        """Begin an answer with its first text."""
        delta = ("message.delta", {"message_id": message_id, "offset": 0, "text": text})
        last = await self._log.append(tx, turn.session_db_id, self._started(turn, agent, model, message_id), delta)
        await self._add_answer(tx, turn, last - 1, agent, model, message_id)

    async def complete_answer(
        self, tx: Transaction, session: Row[Any], turn: Row[Any], answer: Answer, *, final: bool
    ) -> bool:
        """Take a model's complete answer; return whether the turn goes on at once (with another model call).

        Every call passes the gate. Those that are denied, and hand-overs, are answered here; the others wait for the
        client or for a person. Without calls the turn is completed, unless a message waits to join it and this model
        call was not the ``final`` one that the turn may make.
        """
        calls = await unique_calls(tx, session.db_id, answer.calls)
        agent = answer.agent  # a person may have switched the session meanwhile
        streaming = await messages.find_streaming(tx.session, session.db_id, turn.db_id)
        if streaming is None:
            last = await self._log.append(
                tx, session.db_id, self._started(turn, agent, answer.model, answer.message_id)
            )
            await self._add_answer(tx, turn, last, agent, answer.model, answer.message_id)
        usage = None
        if answer.usage is not None:
            usage = {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens}
        judged = await judge_calls(tx, self._policy, self._agents[agent], session, turn, calls)
        completed = {
            "message_id": answer.message_id,
            "turn_id": turn.id,
            "agent": agent,
            "model": answer.model,
            "content": answer.text,
            "status": "completed",
            "tool_calls": [
                {"call_id": call.id, "tool_name": call.name, "arguments": verdict.arguments}
                for call, (verdict, _) in zip(calls, judged, strict=True)
            ],
            "usage": usage,
        }
        await self._log.append(tx, session.db_id, ("message.completed", completed), messages=1)
        await messages.complete(
            tx.session,
            answer.message_id,
            status="completed",
            content=answer.text,
            tool_calls=tool_calls_json(calls),
            token_count=answer.usage.output_tokens if answer.usage else None,
        )
        totals: dict[str, Any] = {"steps": turn.steps + 1}
        if answer.usage:
            totals["input_tokens"] = turn.input_tokens + answer.usage.input_tokens
            totals["output_tokens"] = turn.output_tokens + answer.usage.output_tokens
        await turns.set_fields(tx.session, turn.db_id, **totals)
        if not calls and not final and await has_steering(tx, turn):
            return True
        if not calls:
            totals_usage = {key: totals.get(key, getattr(turn, key)) for key in ("input_tokens", "output_tokens")}
            done = {"turn_id": turn.id, "message_id": answer.message_id, "usage": totals_usage}
            await turns.end(tx.session, turn.db_id, "completed")
            await self._log.append(tx, session.db_id, ("turn.completed", done))
            return False
        for call, (verdict, approval_id) in zip(calls, judged, strict=True):
            await self._calls.admit(tx, session, turn, answer, call, verdict, approval_id=approval_id)
        return await self._wait_or_go_on(tx, turn)

    async def _wait_or_go_on(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Let a turn wait when calls are open; return whether it goes on."""
        open_calls = await turns.list_open_calls(tx.session, turn.db_id)
        if not open_calls:
            return True
        pending = await approvals.list_pending(tx.session, turn.session_db_id)
        await turns.wait(tx.session, turn.db_id)
        data = {
            "turn_id": turn.id,
            "call_ids": [call.call_id for call in open_calls],
            "approval_ids": [row.request_id for row in pending],
        }
        await self._log.append(tx, turn.session_db_id, ("turn.waiting", data))
        return False

    async def resume_when_answered(self, tx: Transaction, turn: Row[Any]) -> bool:
        """Set a waiting turn running when its last open call was answered; return whether it was."""
        if await turns.list_open_calls(tx.session, turn.db_id):
            return False
        await turns.resume(tx.session, turn.db_id, self._lease.owner, self._lease.until)
        return True

    async def interrupt_answer(self, tx: Transaction, turn: Row[Any]) -> None:
        """End an answer that was cut off: what was said stays, marked ``interrupted``, and no model sees it again."""
        row = await messages.find_streaming(tx.session, turn.session_db_id, turn.db_id)
        if row is None:
            return
        said = await events.text_said(tx.session, turn.session_db_id, row.id, row.seq)
        await messages.complete(tx.session, row.id, status="interrupted", content=said)
        data = {
            "message_id": row.id,
            "turn_id": turn.id,
            "agent": row.agent,
            "model": row.model,
            "content": said,
            "status": "interrupted",
            "tool_calls": [],
            "usage": None,
        }
        await self._log.append(tx, turn.session_db_id, ("message.completed", data), messages=1)

    async def fail(self, tx: Transaction, turn: Row[Any], code: str, error: str) -> None:
        """End a turn that cannot go on; the session stays usable."""
        await self._close(tx, turn, f"The turn failed: {error}")
        await turns.end(tx.session, turn.db_id, "failed", code=code, error=error)
        data = {"turn_id": turn.id, "code": code, "error": error}
        await self._log.append(tx, turn.session_db_id, ("turn.failed", data))

    async def cancel(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """End a turn that a person stopped: open calls are answered as cancelled, what was said stays."""
        await self._close(tx, turn, reason)
        await turns.end(tx.session, turn.db_id, "cancelled", error=reason)
        await self._log.append(tx, turn.session_db_id, ("turn.cancelled", {"turn_id": turn.id, "reason": reason}))

    async def _close(self, tx: Transaction, turn: Row[Any], reason: str) -> None:
        """Leave nothing open: no answer that streams, no approval that waits, no call without a result."""
        await self.interrupt_answer(tx, turn)
        pending = {row.call_id: row for row in await approvals.list_pending(tx.session, turn.session_db_id)}
        for call in await turns.list_open_calls(tx.session, turn.db_id):
            if (row := pending.get(call.call_id)) is not None:
                await self._calls.withdraw(tx, turn, row)
            await self._calls.answer(tx, turn, call, "cancelled", error=reason)

    @staticmethod
    def _started(turn: Row[Any], agent: str, model: str, message_id: str) -> tuple[str, dict[str, Any]]:
        data = {"message_id": message_id, "turn_id": turn.id, "agent": agent, "model": model}
        return ("message.started", data)

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
