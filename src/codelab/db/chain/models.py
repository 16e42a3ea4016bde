"""The columns and tables that a module adds to chain its rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from codelab.db.types import UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Column, Table

__all__ = ("ChainCheckpoint", "ChainHead", "ChainTables", "ChainedRow")


class ChainedRow:
    """The columns of a row in the chain; ``seq`` is NULL in rows from before the chain, until it takes them up.

    ``erased_mac`` proves that the payload was erased by someone with the key.
    """

    seq: Mapped[int | None] = mapped_column(BigInteger, index=True, unique=True)
    payload_hash: Mapped[str | None] = mapped_column(String(64))
    mac: Mapped[str | None] = mapped_column(String(64))
    erased_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    erased_mac: Mapped[str | None] = mapped_column(String(64))


class ChainHead:
    """The columns of the one row that a writer locks and advances: the last ``seq`` and its MAC.

    ``checkpoints`` is the digest of all checkpoints; ``proof`` a MAC over all of it, by the key ``key_id``.
    """

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    mac: Mapped[str] = mapped_column(String(64), nullable=False)
    key_id: Mapped[str] = mapped_column(String(16), nullable=False)
    checkpoints: Mapped[str] = mapped_column(String(64), nullable=False)
    proof: Mapped[str] = mapped_column(String(64), nullable=False)


class ChainCheckpoint:
    """The columns of what happened to the chain as a whole, numbered from 1: all of it up to ``seq``, whose MAC it has.

    ``kind`` is ``epoch`` (the rows after it have MACs by the key ``key_id``), ``adopted`` (the rows up to it were
    written before there was a chain) or ``pruned`` (the rows up to it were removed).
    """

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(20), nullable=False)
    seq: Mapped[int] = mapped_column(BigInteger, nullable=False)
    mac: Mapped[str] = mapped_column(String(64), nullable=False)
    key_id: Mapped[str] = mapped_column(String(16), nullable=False)
    reason: Mapped[str] = mapped_column(Text, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)
    proof: Mapped[str] = mapped_column(String(64), nullable=False)


_CHAIN_COLUMNS = frozenset(name for name in vars(ChainedRow) if not name.startswith("_"))


@dataclass(frozen=True)
class ChainTables:
    """Name the tables of one chain; ``order`` are the columns that tell how old rows from before the chain are."""

    rows: Table
    head: Table
    checkpoints: Table
    order: tuple[str, ...] = ("created_at", "id")

    @cached_property
    def payload(self) -> tuple[Column[Any], ...]:
        """The columns that a row records, which is all but those of the chain."""
        return tuple(column for column in self.rows.c if column.name not in _CHAIN_COLUMNS)

    @cached_property
    def erasable(self) -> tuple[str, ...]:
        """The columns that are emptied when a payload is erased: all that may be."""
        return tuple(column.name for column in self.payload if column.nullable)

    def payload_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Pick what a row records."""
        return {column.name: row.get(column.name) for column in self.payload}
