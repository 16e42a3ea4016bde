"""Asking a model: streamed into the log, again where that is safe, and another model when one is not to be had."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from codelab.agent.providers import ModelError, TextDelta, Usage
from codelab.agent.providers.retry import Attempts, Retry, RetryPolicy
from codelab.agent.schemas import CallUsage
from codelab.agent.turns.lease import find_own
from codelab.agent.turns.streaming import Answer, AnswerStream, open_answer
from codelab.agent.turns.ticks import Ticks
from codelab.db import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.providers import ModelClient, ModelRequest, Prices
    from codelab.agent.turns.lease import Lease
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction

__all__ = ("ModelCaller", "Said")

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Said(msgspec.Struct, frozen=True):
    """What a model said that is no part of the session."""

    text: str
    model: str
    usage: CallUsage | None


class ModelCaller:
    """Make the model calls of turns."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        transitions: Transitions,
        client: ModelClient,
        policy: RetryPolicy,
        lease: Lease,
        prices: Prices,
    ) -> None:
        self._database = database
        self._log = log
        self._transitions = transitions
        self._client = client
        self._policy = policy
        self._prices = prices
        self._owner = lease.owner
        self._ticks = Ticks(database, log, lease.owner)

    async def close(self) -> None:
        """Release the connections to the model server."""
        await self._client.close()

    async def answer(self, turn: Row[Any], agent: Agent, request: ModelRequest) -> Answer:
        """Stream one answer into the log and return it whole.

        Raises:
            ModelError: no model gave a complete answer; what was said of it is in the log.
        """
        return await self._ask(turn, request, lambda asked: self._stream(turn, agent, asked), self._policy)

    async def ask(self, turn: Row[Any], request: ModelRequest, *, again: bool = True) -> Said:
        """Return what a model says, whole; nothing of it goes into the log. Without ``again`` it is asked once.

        Raises:
            ModelError: no model gave a complete answer.
        """
        policy = self._policy if again else RetryPolicy()
        return await self._ask(turn, request, lambda asked: self._collect(turn, asked), policy)

    async def _collect(self, turn: Row[Any], request: ModelRequest) -> Said:
        parts: list[str] = []
        usage: CallUsage | None = None
        begun = False
        try:
            async with contextlib.aclosing(self._client.stream(request)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, Usage):
                        usage = self._count(request, delta)
                        continue
                    begun = True
                    if isinstance(delta, TextDelta):
                        parts.append(delta.text)
        except (ModelError, asyncio.CancelledError) as error:
            await self._note_loss(turn, new_id(), error, usage, begun=begun)
            raise
        return Said("".join(parts), request.model, usage)

    async def _ask(
        self, turn: Row[Any], request: ModelRequest, call: Callable[[ModelRequest], Awaitable[T]], policy: RetryPolicy
    ) -> T:
        """Make a call until it succeeds or trying again is not safe any more."""
        attempts = Attempts(policy, request.model)
        while True:
            model = attempts.model
            try:
                return await call(_for_model(request, model))
            except ModelError as error:
                retry = attempts.after(error)
                if retry is None:
                    raise
                failure = error
            await self._tell_retry(turn, model, failure, retry)
            await asyncio.sleep(retry.delay)

    async def _tell_retry(self, turn: Row[Any], model: str, error: ModelError, retry: Retry) -> None:
        logger.info(
            "a model call is made again", extra={"reason": error.code, "attempt": retry.attempt, "delay": retry.delay}
        )
        data = {
            "turn_id": turn.id,
            "attempt": retry.attempt,
            "model": model,
            "next_model": retry.model,
            "reason": error.code,
            "error": error.message,
            "delay": retry.delay,
        }

        async def unit(tx: Transaction) -> None:
            if await find_own(tx, turn.session_db_id, turn.id, self._owner) is not None:
                await self._log.append(tx, turn.session_db_id, ("model.retrying", data))

        await self._database.write(unit)

    async def _stream(self, turn: Row[Any], agent: Agent, request: ModelRequest) -> Answer:
        usage: CallUsage | None = None

        async def begin(message_id: str, kind: str, text: str) -> None:
            async def unit(tx: Transaction) -> None:
                if await find_own(tx, turn.session_db_id, turn.id, self._owner) is not None:
                    await self._transitions.answers.begin(
                        tx,
                        turn,
                        agent=agent.name,
                        model=request.model,
                        message_id=message_id,
                        first=(kind, text),
                        used=usage,
                    )

            await self._database.write(unit)

        answer = AnswerStream(turn, self._ticks, begin)
        try:
            async with open_answer(answer), contextlib.aclosing(self._client.stream(request, answer.due)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, Usage):
                        usage = self._count(request, delta)
                    else:
                        answer.feed(delta)
        except (ModelError, asyncio.CancelledError) as error:
            await self._note_loss(turn, answer.message_id, error, usage, begun=answer.begun)
            raise
        return Answer(
            answer.message_id,
            agent.name,
            request.model,
            answer.text,
            answer.calls,
            answer.reasoning,
            usage,
        )

    def _count(self, request: ModelRequest, reported: Usage) -> CallUsage:
        return CallUsage.of(reported, self._prices.cost(request.model, reported))

    async def _note_loss(
        self, turn: Row[Any], message_id: str, error: BaseException, usage: CallUsage | None, *, begun: bool
    ) -> None:
        """Say whether a call that gave no answer had begun, and count it if it was at work: it will be paid for."""
        if isinstance(error, ModelError):
            error.begun = begun
        if begun or usage is not None:
            lost = self._database.write(lambda tx: self._transitions.answers.count_lost(tx, turn, message_id, usage))
            await asyncio.shield(lost)


def _for_model(request: ModelRequest, model: str) -> ModelRequest:
    """Ask another model the same; what the first one thought is not for it."""
    if model == request.model:
        return request
    messages = tuple(msgspec.structs.replace(message, reasoning=()) for message in request.messages)
    return msgspec.structs.replace(request, model=model, messages=messages)
