"""What becomes of a model's answer, each step inside one unit of work with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.providers import ReasoningBuffer, ReasoningDelta
from codelab.agent.repository import events, messages, usage
from codelab.agent.schemas import CallUsage
from codelab.agent.turns.streaming import REASONING
from codelab.agent.turns.transcript import tool_calls_json
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from codelab.agent.log import EventLog
    from codelab.agent.providers import ReasoningPart, ToolCall
    from codelab.agent.turns.streaming import Answer
    from codelab.db import Transaction

__all__ = ("AnswerTransitions", "told_thoughts")


class AnswerTransitions:
    """Begin, write and cut off answers."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def begin(
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
        await self._add(tx, turn, last - 1, agent, model, message_id)
        if used is not None:
            await messages.set_usage(tx.session, message_id, used)

    async def count_lost(self, tx: Transaction, turn: Row[Any], message_id: str, used: CallUsage | None) -> None:
        """Count a call that gave no answer: with its message where that still streams, else at once."""
        status = await messages.find_status(tx.session, message_id)
        if status is None:
            await usage.add(tx.session, turn_db_id=turn.db_id, session_db_id=turn.session_db_id, usage=used)
        elif status == "streaming" and used is not None:
            await messages.set_usage(tx.session, message_id, used)

    async def write(
        self, tx: Transaction, turn: Row[Any], answer: Answer, calls: Sequence[ToolCall], seconds: float
    ) -> None:
        """Write a complete answer, ``seconds`` after its step began; the end of it is for the caller to tell."""
        if await self._end(tx, answer, calls, seconds):
            return
        # One without text, of which nothing is written yet.
        last = await self._log.append(
            tx, turn.session_db_id, self._started(turn, answer.agent, answer.model, answer.message_id)
        )
        await self._add(tx, turn, last, answer.agent, answer.model, answer.message_id)
        await self._end(tx, answer, calls, seconds)

    async def interrupt(self, tx: Transaction, turn: Row[Any]) -> bool:
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
            "reasoning": told_thoughts(thought),
            "status": "interrupted",
            "tool_calls": [],
            "usage": used,
        }
        await self._log.append(tx, turn.session_db_id, ("message.completed", data), messages=1)
        return True

    @staticmethod
    def _started(turn: Row[Any], agent: str, model: str, message_id: str) -> tuple[str, dict[str, Any]]:
        data = {"message_id": message_id, "turn_id": turn.id, "agent": agent, "model": model}
        return ("message.started", data)

    @staticmethod
    async def _end(tx: Transaction, answer: Answer, calls: Sequence[ToolCall], seconds: float) -> bool:
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
    async def _add(tx: Transaction, turn: Row[Any], seq: int, agent: str, model: str, message_id: str) -> None:
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


def told_thoughts(reasoning: Sequence[ReasoningPart]) -> list[dict[str, Any]]:
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
