"""Cutting what a server says into lines, in bounds: of one that is too long only what it answers is kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Endless", "Lines", "TooLong")

#: Bytes at both ends of a line among which its id is looked for; libraries write it first or last.
EDGE = 256
#: How many times what is allowed a line may have before it is taken for one that never ends.
PATIENCE = 16
_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([0-9]{1,15})\s*,')
_LAST = re.compile(rb',\s*"id"\s*:\s*([0-9]{1,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')


class Endless(Exception):
    """Say that a line does not end."""


class TooLong(NamedTuple):
    """Stand for a line that was too long; ``id`` is that of the request which it answers, where it tells."""

    id: int | None


class Lines:
    """Take pieces, and give lines of at most ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()
        self._looked = 0
        self._head = b""
        self._dropped = 0

    def add(self, piece: bytes) -> Iterator[bytes | TooLong]:
        """Give the lines that a piece completes.

        Raises:
            Endless: that which it begins or goes on with has become far too long.
        """
        self._buffer += piece
        while (end := self._buffer.find(b"\n", self._looked)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._looked = 0
            if self._dropped or len(line) > self._most:
                yield TooLong(_find_id(self._head or line[:EDGE], line[-EDGE:]))
                self._head, self._dropped = b"", 0
            else:
                yield line
        self._looked = len(self._buffer)
        if self._dropped or self._looked > self._most:
            self._drop()

    def _drop(self) -> None:
        """Keep the ends of a line."""
        self._head = self._head or bytes(self._buffer[:EDGE])
        surplus = max(0, len(self._buffer) - EDGE)
        del self._buffer[:surplus]
        self._looked = len(self._buffer)
        self._dropped += surplus
        if self._dropped > PATIENCE * self._most:
            raise Endless


def _find_id(head: bytes, tail: bytes) -> int | None:
    found = _FIRST.match(head) or _LAST.search(tail)
    return None if found is None else int(found[1])
