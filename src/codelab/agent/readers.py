"""Who follows which session now, for how long they may, and on whose behalf."""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from codelab.agent.subscription import End, Subscription
from codelab.db import new_id
from codelab.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator

    from codelab.agent.log import EventLog
    from codelab.agent.sessions import SessionService
    from codelab.identity import Principal

    #: Tells which of some callers may still act; the application hands it over, since another module knows.
    StillValid: TypeAlias = Callable[[Collection[Principal]], Awaitable[set[Principal]]]

__all__ = ("CLIENT_ID", "Following", "Reader", "Readers", "read_client")

#: What a client may call itself.
CLIENT_ID = r"^[A-Za-z0-9._~-]{1,64}$(?!\n)"
_CLIENT_ID = re.compile(CLIENT_ID)


def read_client(given: str | None) -> str:
    """Read what a client calls itself, or make a name for one that does not say.

    Raises:
        BadRequest: it is no name.
    """
    if given is None:
        return new_id()
    if not _CLIENT_ID.fullmatch(given):
        raise BadRequest("client: must be 1 to 64 characters of A-Z a-z 0-9 . _ ~ -", field="client")
    return given


class Following:
    """Hold what it takes to follow a session; a client has ``send_timeout`` seconds to accept what is sent."""

    __slots__ = ("log", "readers", "send_timeout", "sessions")

    def __init__(self, sessions: SessionService, log: EventLog, readers: Readers, send_timeout: float) -> None:
        self.sessions = sessions
        self.log = log
        self.readers = readers
        self.send_timeout = send_timeout


@dataclass(eq=False, slots=True)
class Reader:
    """One stream that is open."""

    principal: Principal
    subscription: Subscription


class Readers:
    """Know every open stream, and end those whose caller may no longer read."""

    def __init__(self, still_valid: StillValid | None) -> None:
        self._still_valid = still_valid
        self._open: set[Reader] = set()
        self._clients: Counter[tuple[int, str]] = Counter()

    @contextmanager
    def attach(self, principal: Principal, session_db_id: int, client: str) -> Iterator[Subscription]:
        """Know a client while it follows a session; gives the subscription to follow with."""
        attached = (session_db_id, client)
        self._clients[attached] += 1
        try:
            with self.watch(principal) as subscription:
                yield subscription
        finally:
            self._clients[attached] -= 1
            if not self._clients[attached]:
                del self._clients[attached]

    @contextmanager
    def watch(self, principal: Principal) -> Iterator[Subscription]:
        """Know a caller while they follow something; their subscription ends when they may no longer read."""
        reader = Reader(principal, Subscription())
        self._open.add(reader)
        try:
            yield reader.subscription
        finally:
            self._open.discard(reader)

    def is_attached(self, session_db_id: int, client: str) -> bool:
        """Tell whether a client follows a session now."""
        return (session_db_id, client) in self._clients

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
