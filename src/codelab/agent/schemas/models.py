"""Models that there are to choose from, in the shape of OpenAI's list with what a client needs to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

if TYPE_CHECKING:
    from codelab.agent.providers import Price

__all__ = ("ModelInfo", "ModelList", "ModelPrices")


class ModelPrices(msgspec.Struct, omit_defaults=True):
    """What a model costs, in USD per million tokens."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    @classmethod
    def of(cls, price: Price) -> Self:
        """Make them from the price list."""
        return cls(**{name: float(value) for name, value in msgspec.structs.asdict(price).items() if value is not None})


class ModelInfo(msgspec.Struct):
    """Describe a model; ``context_tokens`` fit into its window, ``owned_by`` is what its server speaks."""

    id: str
    owned_by: str
    context_tokens: int
    object: str = "model"
    prices: ModelPrices | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, model: str, owner: str, context_tokens: int, price: Price | None) -> Self:
        """Make it of a model with its price, where that is known."""
        prices = msgspec.UNSET if price is None else ModelPrices.of(price)
        return cls(model, owner, context_tokens, prices=prices)


class ModelList(msgspec.Struct):
    """List the models, the default first."""

    data: list[ModelInfo]
    object: str = "list"
