"""Who follows which session now, for how long they may, and on whose behalf."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from codelab.agent.log import End, Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator

    from codelab.identity import Principal

    #: Tells which of some callers may still act; the application hands it over, since another module knows.
    StillValid: TypeAlias = Callable[[Collection[Principal]], Awaitable[set[Principal]]]

__all__ = ("Reader", "Readers")


@dataclass(eq=False, slots=True)
class Reader:
    """One client that follows a session."""

    principal: Principal
    subscription: Subscription


class Readers:
    """Know every open stream, and end those whose caller may no longer read."""

    def __init__(self, still_valid: StillValid | None) -> None:
        self._still_valid = still_valid
        self._open: set[Reader] = set()

    @contextmanager
    def attach(self, principal: Principal) -> Iterator[Subscription]:
        """Know a client while it follows a session; gives the subscription to follow with."""
        reader = Reader(principal, Subscription())
        self._open.add(reader)
        try:
            yield reader.subscription
        finally:
            self._open.discard(reader)

    async def end_invalid(self) -> None:
        """End the streams of callers whose token has expired or who were disabled, by whatever process."""
        at = time.time()
        for reader in self._open:
            if reader.principal.expires_at is not None and reader.principal.expires_at <= at:
                reader.subscription.close(End.EXPIRED)
        callers = {reader.principal for reader in self._open if not reader.subscription.closed}
        if not callers or self._still_valid is None:
            return
        revoked = callers - await self._still_valid(callers)
        for reader in self._open:
            if reader.principal in revoked:
                expires_at = reader.principal.expires_at
                expired = expires_at is not None and expires_at <= time.time()
                reader.subscription.close(End.EXPIRED if expired else End.REVOKED)
