"""Who takes a request: the agent that the person names, else the one that a model or the keywords choose."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from codelab.agent.agents import ORCHESTRATOR
from codelab.agent.providers import ChatMessage, ModelError, ModelRequest
from codelab.agent.repository import messages, sessions, usage
from codelab.agent.routing import Route, route_by_keywords
from codelab.agent.turns.lease import find_own
from codelab.agent.turns.server_tools import switch_agent

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.agents import Agents
    from codelab.agent.log import EventLog
    from codelab.agent.model_choice import Models
    from codelab.agent.turns.calling import ModelCaller
    from codelab.agent.turns.lease import Lease
    from codelab.db import Database, Transaction

__all__ = ("Router",)

logger = logging.getLogger(__name__)

#: Characters of a request that the model reads in order to choose, seconds that it may take, and tokens it may write.
MOST, SECONDS, TOKENS = 4_000, 20, 1024
_MENTION = re.compile(r"\s*@([A-Za-z][\w-]*)(?=[\s:,]|$)")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", re.DOTALL)
PROMPT = (
    "You choose which agent takes a request. Answer with one JSON object and nothing else: "
    '{{"agent": one of {names}, "confidence": "low", "medium" or "high", "reasoning": one short sentence}}.\n\n{agents}'
)


class _Choice(msgspec.Struct):
    agent: str
    confidence: Literal["low", "medium", "high"]
    reasoning: str = ""


class Router:
    """Hand sessions to the agents that their requests are for; ``by_model`` has a model choose before the keywords."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        agents: Agents,
        caller: ModelCaller,
        models: Models,
        lease: Lease,
        *,
        by_model: bool,
    ) -> None:
        self._database = database
        self._log = log
        self._agents = agents
        self._caller = caller
        self._models = models
        self._owner = lease.owner
        self._by_model = by_model

    async def route(self, session: Row[Any], turn: Row[Any]) -> Row[Any]:
        """Hand the request of a turn that begins to its agent; return the session as it is then.

        A session whose agent is not here (any more) goes to the one that sessions begin with, also within a turn.
        """
        if session.current_agent not in self._agents:
            first, reason = self._agents.first, f"There is no agent {session.current_agent} here"
            session = await self._switch(session, turn, Route(first, "high", reason), "router")
        if turn.steps:
            return session
        async with self._database.peek() as db:
            question = await messages.find_question(db, session.db_id, turn.db_id)
        content = (question.content or "") if question is not None else ""
        named = _MENTION.match(content)
        if named is not None and named[1].lower() in self._agents:
            route, by = Route(named[1].lower(), "high", "The message names the agent"), "user"
        elif session.current_agent == ORCHESTRATOR:
            route, by = await self._choose(session, turn, content), "router"
        else:
            return session
        if route.agent == session.current_agent:
            return session
        return await self._switch(session, turn, route, by)

    async def _switch(self, session: Row[Any], turn: Row[Any], route: Route, by: str) -> Row[Any]:
        async def switch(tx: Transaction) -> Row[Any] | None:
            fresh = await sessions.find_by_key(tx.session, session.db_id)
            mine = await find_own(tx, session.db_id, turn.id, self._owner) is not None
            if not mine or fresh is None or fresh.current_agent != session.current_agent:
                return fresh
            await switch_agent(
                self._log,
                tx,
                fresh,
                to_agent=route.agent,
                reason=route.reason,
                confidence=route.confidence,
                by=by,
            )
            return await sessions.find_by_key(tx.session, session.db_id)

        return await self._database.write(switch) or session

    async def _choose(self, session: Row[Any], turn: Row[Any], content: str) -> Route:
        chosen = await self._ask(session, turn, content) if self._by_model else None
        return route_by_keywords(content) if chosen is None else chosen

    async def _ask(self, session: Row[Any], turn: Row[Any], content: str) -> Route | None:
        """Have a model choose, in a call that is counted and no part of the session; None where it does not."""
        specialists = {name: agent.description for name, agent in self._agents.items() if name != ORCHESTRATOR}
        lines = "\n".join(f"- {name}: {description}" for name, description in specialists.items())
        request = ModelRequest(
            model=self._models.choose(session.model, self._agents[ORCHESTRATOR].model),
            messages=(
                ChatMessage(role="system", content=PROMPT.format(names=", ".join(specialists), agents=lines)),
                ChatMessage(role="user", content=content[:MOST]),
            ),
            max_output_tokens=TOKENS,
        )
        try:
            async with asyncio.timeout(SECONDS):
                said = await self._caller.ask(turn, request, again=False)
        except (ModelError, TimeoutError) as error:
            logger.info("keywords choose the agent, since no model did", extra={"reason": type(error).__name__})
            return None
        await self._database.write(
            lambda tx: usage.add(tx.session, turn_db_id=turn.db_id, session_db_id=turn.session_db_id, usage=said.usage)
        )
        fenced = _FENCE.fullmatch(said.text)
        try:
            choice = msgspec.json.decode(fenced[1] if fenced else said.text, type=_Choice)
        except (msgspec.DecodeError, msgspec.ValidationError):
            choice = None
        if choice is None or choice.agent not in specialists:
            logger.info("keywords choose the agent, since the model's answer is not usable")
            return None
        return Route(choice.agent, choice.confidence, choice.reasoning[:500] or "The model chose")
