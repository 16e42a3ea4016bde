"""Asking a model: streamed into the log, again where that is safe, and another model when one is not to be had."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from codelab.agent.providers import ModelError, TextDelta, ToolCallBuffer, ToolCallDelta, Usage
from codelab.agent.providers.retry import Attempts, Retry
from codelab.agent.repository import turns
from codelab.agent.turns.answer import Answer, open_answer
from codelab.agent.turns.ticks import Ticks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.providers import ModelClient, ModelRequest
    from codelab.agent.providers.retry import RetryPolicy
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction

__all__ = ("ModelCaller", "Said", "still_running")

T = TypeVar("T")
logger = logging.getLogger(__name__)


async def still_running(tx: Transaction, session_db_id: int, turn_id: str) -> Row[Any] | None:
    """Return the turn if it is still this session's running one: a person may have cancelled it meanwhile."""
    turn = await turns.find_active(tx.session, session_db_id)
    return turn if turn is not None and turn.id == turn_id and turn.state == "running" else None


class Said(msgspec.Struct, frozen=True):
    """What a model said that is no part of the session."""

    text: str
    model: str
    usage: Usage | None


class ModelCaller:
    """Make the model calls of turns."""

    def __init__(
        self, database: Database, log: EventLog, transitions: Transitions, client: ModelClient, policy: RetryPolicy
    ) -> None:
        self._database = database
        self._log = log
        self._transitions = transitions
        self._client = client
        self._policy = policy
        self._ticks = Ticks(database, log)

    async def close(self) -> None:
        """Release the connections to the model server."""
        await self._client.close()

    async def answer(self, turn: Row[Any], agent: Agent, request: ModelRequest) -> Answer:
        """Stream one answer into the log and return it whole.

        Raises:
            ModelError: no model gave a complete answer; what was said of it is in the log.
        """
        return await self._ask(turn, request, lambda asked: self._stream(turn, agent, asked))

    async def ask(self, turn: Row[Any], request: ModelRequest) -> Said:
        """Return what a model says, whole; nothing of it goes into the log.

        Raises:
            ModelError: no model gave a complete answer.
        """
        return await self._ask(turn, request, self._collect)

    async def _collect(self, request: ModelRequest) -> Said:
        parts: list[str] = []
        usage: Usage | None = None
        async with contextlib.aclosing(self._client.stream(request)) as deltas:
            try:
                async for delta in deltas:
                    if isinstance(delta, TextDelta):
                        parts.append(delta.text)
                    elif isinstance(delta, Usage):
                        usage = delta
            except ModelError as error:
                error.begun = bool(parts)
                raise
        return Said("".join(parts), request.model, usage)

    async def _ask(self, turn: Row[Any], request: ModelRequest, call: Callable[[ModelRequest], Awaitable[T]]) -> T:
        """Make a call until it succeeds or trying again is not safe any more."""
        attempts = Attempts(self._policy, request.model)
        while True:
            model = attempts.model
            try:
                return await call(msgspec.structs.replace(request, model=model))
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
            if await still_running(tx, turn.session_db_id, turn.id) is not None:
                await self._log.append(tx, turn.session_db_id, ("model.retrying", data))

        await self._database.write(unit)

    async def _stream(self, turn: Row[Any], agent: Agent, request: ModelRequest) -> Answer:
        buffer = ToolCallBuffer()
        usage: Usage | None = None
        begun = False

        async def write(message_id: str, offset: int, text: str) -> None:
            if offset:
                await self._ticks.write(turn.id, turn.session_db_id, message_id, offset, text)
                return

            async def unit(tx: Transaction) -> None:
                if await still_running(tx, turn.session_db_id, turn.id) is not None:
                    await self._transitions.begin_answer(
                        tx, turn, agent=agent.name, model=request.model, message_id=message_id, text=text
                    )

            await self._database.write(unit)

        async with open_answer(write) as answer, contextlib.aclosing(self._client.stream(request)) as deltas:
            try:
                async for delta in deltas:
                    if isinstance(delta, Usage):
                        usage = delta
                        continue
                    begun = True
                    if isinstance(delta, TextDelta):
                        answer.feed(delta.text)
                    elif isinstance(delta, ToolCallDelta):
                        buffer.add(delta)
            except ModelError as error:
                error.begun = begun
                raise
        return Answer(answer.message_id, agent.name, request.model, answer.text, tuple(buffer.calls()), usage)
