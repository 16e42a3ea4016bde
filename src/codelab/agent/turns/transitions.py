"""The only ways in which a turn changes, each inside one unit of work, each with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.grants import judge_calls
from codelab.agent.repository import approvals, turns, usage
from codelab.agent.schemas import TotalUsage
from codelab.agent.turns.answers import AnswerTransitions, told_thoughts
from codelab.agent.turns.calls import CallTransitions, unique_calls
from codelab.agent.turns.limits import CONTINUE_TURN, Spent
from codelab.agent.turns.server_tools import conclude, refuse_early_end
from codelab.agent.turns.steering import has_steering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.policy import Policy
    from codelab.agent.turns.lease import Lease
    from codelab.agent.turns.limits import Reached, TurnLimits
    from codelab.agent.turns.streaming import Answer
    from codelab.db import Transaction

__all__ = ("Transitions",)


class Transitions:
    """Change turns and, with ``answers``, what models say in them.

    Every method is called inside a transaction and appends its own events.
    """

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
        self.answers = AnswerTransitions(log)
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
        await self.answers.write(tx, turn, answer, calls, seconds)
        foreign = await self._calls.foreign(tx, session.db_id) if calls else {}
        judged = await judge_calls(tx, self._policy, self._agents[agent], session, turn, calls, foreign)
        judged = refuse_early_end(calls, judged)
        completed = {
            "message_id": answer.message_id,
            "turn_id": turn.id,
            "agent": agent,
            "model": answer.model,
            "content": answer.text,
            "reasoning": told_thoughts(answer.reasoning),
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
        await self.answers.interrupt(tx, turn)
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
