"""Reading token counts that servers write."""

from __future__ import annotations

from typing import Any

__all__ = ("count",)

_MOST = 2**53


def count(tokens: Any) -> int:
    """Return a count as a whole number from 0; what is no number counts nothing (servers write null, NaN, text)."""
    if not isinstance(tokens, int | float) or not tokens > 0:
        return 0
    return int(min(tokens, _MOST))
