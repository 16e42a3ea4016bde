"""Which models there are to choose from, and which one a model call asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.schemas import ModelInfo, ModelList
from codelab.errors import BadRequest, StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codelab.agent.agents import Agent
    from codelab.agent.providers import Prices

__all__ = ("Models",)


class Models:
    """Know the models that the operator allows; the first is the default."""

    def __init__(self, default: str, others: Iterable[str] = ()) -> None:
        self.allowed = tuple(dict.fromkeys((default, *others)))

    @property
    def default(self) -> str:
        """Return what answers where nobody chose."""
        return self.allowed[0]

    def check(self, model: str) -> None:
        """Take the choice of a person.

        Raises:
            BadRequest: the model is not allowed; the line says which are.
        """
        if model not in self.allowed:
            raise BadRequest(f"model: must be one of {', '.join(self.allowed)}", field="model")

    def check_agents(self, agents: Iterable[Agent]) -> None:
        """Take the choices in the definitions of agents.

        Raises:
            StartError: a model is not allowed; the line names the file and its line.
        """
        for agent in agents:
            if agent.model is not None and agent.model not in self.allowed:
                where = f"{agent.file}, line {agent.model_line}"
                raise StartError(
                    f"{where}: model: {agent.model} is not allowed; AGENT_RUNTIME__LLM_MODELS has to name it."
                )

    def choose(self, *wanted: str | None) -> str:
        """Return the first that is allowed of some choices, else the default: what was allowed once may not be now."""
        return next((model for model in wanted if model in self.allowed), self.default)

    def describe(self, *, owner: str, context_tokens: int, prices: Prices) -> ModelList:
        """List the models, the default first; ``owner`` is who speaks to them, the prices are those that are known."""
        return ModelList([ModelInfo.of(model, owner, context_tokens, prices.find(model)) for model in self.allowed])
