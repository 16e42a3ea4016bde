"""How many bytes a token of a model has: guessed at first, then learned from what its provider counts."""

from __future__ import annotations

__all__ = ("BYTES_PER_TOKEN", "TokenRatios")

#: Fewer than English prose has (4), so that code and other scripts are not underestimated by much.
BYTES_PER_TOKEN = 3.0
#: What to begin with, by the beginning of a model's name (without the part before the last slash).
_DEFAULTS = (
    ("fake-llm", 4.0),
    ("gpt-", 3.5),
    ("o1", 3.5),
    ("o3", 3.5),
    ("o4", 3.5),
    ("claude-", 3.0),
    ("gemini-", 3.5),
    ("mistral", 3.2),
    ("llama", 3.5),
)
#: No tokenizer has fewer or more than these for long.
_FEWEST, _MOST = 1.0, 6.0
#: A request of fewer tokens says more about the provider's own frame than about text.
_ENOUGH = 500
#: How much a new count weighs: more when it says that there is less room than was thought.
_DOWN, _UP = 0.6, 0.2


class TokenRatios:
    """Know the bytes per token of each model, for as long as the process lives."""

    def __init__(self) -> None:
        self._learned: dict[str, float] = {}

    def of(self, model: str) -> float:
        """Return how many bytes of a request to this model one token has."""
        if (known := self._learned.get(model)) is not None:
            return known
        name = model.rpartition("/")[2].lower()
        return next((ratio for start, ratio in _DEFAULTS if name.startswith(start)), BYTES_PER_TOKEN)

    def learn(self, model: str, size: int, tokens: int) -> None:
        """Take that a provider counted so many input tokens in a request of so many bytes."""
        if tokens < _ENOUGH:
            return
        seen = min(max(size / tokens, _FEWEST), _MOST)
        known = self.of(model)
        self._learned[model] = known + (seen - known) * (_DOWN if seen < known else _UP)
