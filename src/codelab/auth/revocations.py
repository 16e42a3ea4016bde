"""Access tokens that ended before their time: known at once in this process, and within a second in others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.recent import Recent
from codelab.auth.repository.revocations import find_revoked

if TYPE_CHECKING:
    from collections.abc import Collection

    from codelab.db import Database

__all__ = ("Revocations",)

#: Seconds for which an answer of the database is good.
_MAX_AGE = 1.0
#: Ids that one statement asks for.
_CHUNK = 500


class _Known(NamedTuple):
    at: float
    generation: int
    ended: bool


class Revocations:
    """Tell which tokens were revoked, by themselves or with the login that they come from."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._generation = 0
        self._known: Recent[_Known] = Recent()

    def note(self) -> None:
        """Take note that this process has committed a revocation: what was known before is asked anew."""
        self._generation += 1

    async def has_ended(self, ids: tuple[str, ...]) -> bool:
        """Tell whether a token was revoked; ``ids`` are its own and that of its login."""
        # Both are read before the database, so that an answer from before a revocation is not taken for a later one.
        at, generation = time.monotonic(), self._generation
        known = self._known.get(ids)
        if known is None or known.generation != generation or at - known.at >= _MAX_AGE:
            known = _Known(at, generation, bool(await self.ended(ids)))
            self._known.put(ids, known)
        return known.ended

    async def ended(self, ids: Collection[str]) -> set[str]:
        """Return which ids were revoked, as the database says now."""
        wanted, found = list(ids), set[str]()
        async with self._database.peek() as session:
            for first in range(0, len(wanted), _CHUNK):
                found |= await find_revoked(session, wanted[first : first + _CHUNK])
        return found
