"""A digest of a table that does not depend on the order of its rows, and that anybody can compute again.

It is the sum of the SHA-256 of every row, each read as a number of 256 bits with the highest byte first, modulo
2**256, written as 64 hexadecimal digits. A row is its line of JSON (``codelab.storage.values``) without the line end.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("TableDigest",)


class TableDigest:
    """Count rows and add up their hashes."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    @classmethod
    def of(cls, rows: int, digest: str) -> TableDigest:
        """Take over what a manifest tells."""
        self = cls()
        self.rows, self._sum = rows, int(digest, 16)
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
    def hex(self) -> str:
        """The digest of what was taken in."""
        return f"{self._sum:064x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableDigest) and (self.rows, self.hex) == (other.rows, other.hex)

    def __hash__(self) -> int:
        return hash((self.rows, self._sum))
