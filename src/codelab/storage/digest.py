"""A digest of a table that does not depend on the order of its rows, and that anybody can compute again.

It is the sum of the SHA-256 of every row, each read as a number of 256 bits with the highest byte first, modulo
2**256, written as 64 hexadecimal digits. A row is its line of JSON (``codelab.storage.values``) without the line end.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("TableDigest", "Tally")


class Tally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows a table has, and their digest."""

    rows: Annotated[int, msgspec.Meta(ge=0)]
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class TableDigest:
    """Count rows and add up their hashes."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    @classmethod
    def of(cls, tally: Tally) -> TableDigest:
        """Take over what a manifest tells."""
        self = cls()
        self.rows, self._sum = tally.rows, int(tally.digest, 16)
        return self

    def add(self, lines: Iterable[bytes]) -> None:
        """Take rows in, in any order."""
        total, rows = 0, 0
        for line in lines:
            total += int.from_bytes(sha256(line).digest(), "big")
            rows += 1
        self._sum = (self._sum + total) % (1 << 256)
        self.rows += rows

    @property
    def tally(self) -> Tally:
        """What is told about the table."""
        return Tally(rows=self.rows, digest=self.hex)

    @property
    def hex(self) -> str:
        """The digest of what was taken in."""
        return f"{self._sum:064x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableDigest) and (self.rows, self.hex) == (other.rows, other.hex)

    def __hash__(self) -> int:
        return hash((self.rows, self._sum))
