"""The request that a model is sent for the next step of a turn: prompt, tools, and the messages that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.providers import ModelRequest
from codelab.agent.tools import TOOLS
from codelab.agent.turns import transcript
from codelab.agent.turns.cutting import measure
from codelab.agent.turns.tokens import TokenRatios
from codelab.agent.turns.window import fit, read_tail

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.turns.answer import Answer
    from codelab.agent.turns.window import ContextLimits
    from codelab.db import Database

__all__ = ("ContextBuilder",)


class ContextBuilder:
    """Make requests that fit the window of the model."""

    def __init__(self, database: Database, limits: ContextLimits, *, model: str) -> None:
        self._database = database
        self._limits = limits
        self._model = model
        self._ratios = TokenRatios()

    async def request(self, session: Row[Any], turn: Row[Any], agent: Agent) -> ModelRequest:
        """Make the request of a turn's next step."""
        prompt = transcript.system_prompt(agent, session.metadata_json.get("instructions"))
        tools = tuple(TOOLS[name] for name in agent.tools)
        fixed = measure(transcript.build_prompt(prompt), tools)
        room = int(self._limits.input_tokens * self._ratios.of(self._model)) - fixed
        chars = self._limits.tool_output_chars
        async with self._database.read() as db:
            tail = await read_tail(db, session.db_id, turn.db_id, room=room, tool_output_chars=chars)
        return ModelRequest(
            model=self._model,
            messages=transcript.build(prompt, fit(tail, room=room, tool_output_chars=chars)),
            tools=tools,
            temperature=agent.temperature,
            max_output_tokens=self._limits.output_tokens,
        )

    def learn(self, request: ModelRequest, answer: Answer) -> None:
        """Learn from what the provider counted how much fits next time; images have no measure in bytes."""
        if answer.usage is not None and not any(message.images for message in request.messages):
            self._ratios.learn(answer.model, measure(request.messages, request.tools), answer.usage.input_tokens)
