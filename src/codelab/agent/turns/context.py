"""What a model is sent for the next step of a turn: prompt, tools, a summary, and the newest messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Row

from codelab.agent.ownership import require_session
from codelab.agent.providers import ModelRequest, ToolSpec
from codelab.agent.repository import summaries, turns
from codelab.agent.schemas import ContextView
from codelab.agent.tools import offer_tools
from codelab.agent.turns import transcript
from codelab.agent.turns.cutting import Cuts, measure
from codelab.agent.turns.images import choose_images, name_images, read_images
from codelab.agent.turns.summary import find_old
from codelab.agent.turns.tokens import TokenRatios
from codelab.agent.turns.window import START, Position, Tail, fit, read_tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codelab.agent.agents import Agent, Agents
    from codelab.agent.mcp import Catalogue
    from codelab.agent.model_choice import Models
    from codelab.agent.providers import ChatMessage, Image
    from codelab.agent.turns.streaming import Answer
    from codelab.agent.turns.summary import Summariser
    from codelab.agent.turns.window import ContextLimits, Window
    from codelab.db import Database
    from codelab.identity import Principal

__all__ = ("ContextBuilder", "ContextService")


#: Messages of a session that are read on the event loop, where the way to a thread would cost more than reading them.
FEW = 32


class _Context(msgspec.Struct, frozen=True):
    """Hold what a request is made of; ``room`` is for all of it, in bytes."""

    model: str
    prompt: str
    tools: tuple[ToolSpec, ...]
    room: int
    summary: Row[Any] | None
    tail: Tail

    @property
    def head(self) -> tuple[ChatMessage, ...]:
        """Return what comes before the messages."""
        return transcript.build_head(self.prompt, None if self.summary is None else self.summary.text)

    @property
    def left(self) -> int:
        """Return how many bytes there are for messages."""
        return self.room - measure(self.head, self.tools)

    def window(self, tool_output_chars: int) -> Window:
        """Return what fits of the messages."""
        return fit(self.tail, room=self.left, tool_output_chars=tool_output_chars)

    def messages(self, window: Window, images: Mapping[str, tuple[Image, ...]]) -> tuple[ChatMessage, ...]:
        """Return the whole transcript."""
        return transcript.build(self.head, window, images, model=self.model)


class ContextBuilder:
    """Make requests that fit the window of the model.

    ``share`` of the room is filled before older messages are summarised.
    """

    def __init__(
        self,
        database: Database,
        limits: ContextLimits,
        models: Models,
        *,
        catalogue: Catalogue,
        summariser: Summariser | None = None,
        share: float = 1.0,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._limits = limits
        self._models = models
        self._summariser = summariser
        self._share = share
        self._ratios = TokenRatios()

    async def request(self, session: Row[Any], turn: Row[Any], agent: Agent) -> ModelRequest:
        """Make the request of a turn's next step; it may take a model call for a summary before."""
        await self._catalogue.refresh(session.db_id)
        context = await self._read(session, turn.db_id, agent)
        if self._summariser is not None:
            context = await self._shorten(turn, context, self._summariser)
        window = context.window(self._limits.tool_output_chars)
        shown = await choose_images(self._database, session.db_id, turn.db_id, window)
        images = await read_images(self._database, shown)
        return ModelRequest(
            model=context.model,
            messages=context.messages(window, images),
            tools=context.tools,
            temperature=agent.temperature,
            max_output_tokens=self._limits.output_tokens,
        )

    async def view(self, session: Row[Any], turn_db_id: int, agent: Agent) -> ContextView:
        """Tell what a model would be sent for a turn now."""
        context = await self._read(session, turn_db_id, agent)
        window = context.window(self._limits.tool_output_chars)
        images = name_images(await choose_images(self._database, session.db_id, turn_db_id, window))
        messages = context.messages(window, images)
        tokens = round(measure(messages, context.tools) / self._ratios.of(context.model))
        return ContextView.of(session.id, tokens, self._limits.input_tokens, context.summary, messages)

    def learn(self, request: ModelRequest, answer: Answer) -> None:
        """Learn from what the provider counted how much fits next time; images have no measure in bytes."""
        if answer.usage is not None and not any(message.images for message in request.messages):
            self._ratios.learn(answer.model, measure(request.messages, request.tools), answer.usage.input_tokens)

    async def _read(self, session: Row[Any], turn_db_id: int, agent: Agent) -> _Context:
        model = self._models.choose(session.model, agent.model)
        few = session.message_count <= FEW
        async with self._database.peek() if few else self._database.read() as db:
            summary = await summaries.find_latest(db, session.db_id)
            foreign = await self._catalogue.of_session(db, session.db_id)
            context = _Context(
                model=model,
                prompt=transcript.system_prompt(agent, session.metadata_json.get("instructions")),
                tools=(*offer_tools(agent.tools, agent.colleagues), *foreign.values()),
                room=int(self._limits.input_tokens * self._ratios.of(model)),
                summary=summary,
                tail=Tail(turn_db_id, ()),
            )
            tail = await read_tail(
                db,
                session.db_id,
                turn_db_id,
                after=START if summary is None else Position(summary.turn_db_id, summary.seq),
                room=context.left,
                tool_output_chars=self._limits.tool_output_chars,
            )
        return msgspec.structs.replace(context, tail=tail)

    async def _shorten(self, turn: Row[Any], context: _Context, summariser: Summariser) -> _Context:
        """Put a summary in the place of older messages when the window is filled too far."""
        ratio = self._ratios.of(context.model)
        cuts = Cuts(self._limits.tool_output_chars)
        tail, most = context.tail, int(context.room * self._share)
        used = context.room - context.left + sum(map(cuts.size, tail.rows))
        if used <= most and tail.unread is None:
            return context
        # About half of what may be filled: the next summary is not due for a while.
        keep = (most - measure(transcript.build_head(context.prompt, None), context.tools)) // 2
        old = find_old(tail, keep - int(summariser.tokens * ratio) // 2, cuts)
        if not old or (tail.unread is None and sum(map(cuts.size, old)) < context.room // 8):
            return context  # what fills it is new
        summary = await summariser.summarise(
            turn, context.model, ratio, old, context.summary, more=tail.unread is not None
        )
        if summary is None:
            return context
        rest = tail.after(Position(summary.turn_db_id, summary.seq))
        return msgspec.structs.replace(context, summary=summary, tail=rest)


class ContextService:
    """Show people what models see of their sessions."""

    def __init__(self, database: Database, builder: ContextBuilder, agents: Agents) -> None:
        self._database = database
        self._builder = builder
        self._agents = agents

    async def get(self, principal: Principal, session_id: str) -> ContextView:
        """Return what the model would be sent for the active turn, or for the one that ran last."""
        async with self._database.read() as db:
            session = await require_session(db, principal, session_id)
            turn = await turns.find_newest(db, session.db_id)
        key = 0 if turn is None else turn.db_id
        return await self._builder.view(session, key, self._agents.find(session.current_agent))
