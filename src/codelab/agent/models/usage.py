"""What model calls used, as messages, turns and sessions keep it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import Mapped, mapped_column

__all__ = ("CostColumns", "TotalColumns")


class CostColumns:
    """Tokens beside those of input and output, and the cost in micro-USD; null where nobody knows."""

    cache_read_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cost: Mapped[int | None] = mapped_column(BigInteger)


class TotalColumns(CostColumns):
    """The same, of many calls: ``cost`` is that of all but ``unpriced_calls`` of them."""

    unpriced_calls: Mapped[int | None] = mapped_column(Integer)
