"""What model calls used and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.providers import Usage

__all__ = ("TOKENS", "CallUsage", "TotalUsage")

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
#: Tokens of one call at most: no model writes or reads as many, and sums of hostile counts stay within 64 bits.
_MOST = 10**12


class CallUsage(msgspec.Struct, frozen=True):
    """What one call used; ``cost`` is in whole micro-USD, null where a price is unknown."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: int | None

    @classmethod
    def of(cls, usage: Usage, cost: int | None) -> Self:
        """Make it from what a provider reported."""
        return cls(**{name: min(getattr(usage, name), _MOST) for name in TOKENS}, cost=cost)

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self | None:
        """Make it from a row of ``messages``; None where nothing was counted."""
        if row.input_tokens is None:
            return None
        return cls(**{name: getattr(row, name) or 0 for name in TOKENS}, cost=row.cost)


class TotalUsage(msgspec.Struct, frozen=True):
    """What many calls used; ``cost`` is null when that of any is unknown, and ``known_cost`` is that of the others."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: int | None
    known_cost: int

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self | None:
        """Make it from a row of ``turns`` or ``sessions``; None where no call was counted."""
        if row.input_tokens is None:
            return None
        known = row.cost or 0
        tokens = {name: getattr(row, name) or 0 for name in TOKENS}
        return cls(**tokens, cost=None if row.unpriced_calls else known, known_cost=known)
