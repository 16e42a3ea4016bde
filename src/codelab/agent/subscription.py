"""What waits in memory for one reader of a session, and why a reader ends."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.repository.events import Event

__all__ = ("BACKLOG", "BACKLOG_BYTES", "End", "Subscription")

#: What waits in memory for one reader that follows: events, and bytes of their data. One that lets more pile up is
#: disconnected; it comes back with its cursor.
BACKLOG = 1024
BACKLOG_BYTES = 8 * 1024 * 1024


class End(Enum):
    """Why a reader ends."""

    DELETED = "session_deleted"
    STOPPING = "server_stopping"
    SLOW = "slow_reader"
    EXPIRED = "token_expired"
    REVOKED = "token_revoked"

    @property
    def owes(self) -> bool:
        """Whether what was committed before the end still goes to the reader."""
        return self in {End.DELETED, End.STOPPING}


class Subscription:
    """Hold the newest events of one session for one reader, never more than ``BACKLOG``.

    A reader that still reads pages of the past is not ``live``: an overflow costs it nothing, since the database has
    the events.
    """

    __slots__ = ("_bytes", "_stale", "_waiting", "_wake", "end", "live")

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._bytes = 0
        self._stale = False
        self._wake: asyncio.Future[None] | None = None
        self.live = False
        self.end: End | None = None

    @property
    def closed(self) -> bool:
        """Whether the reader is to end."""
        return self.end is not None

    def push(self, appended: Sequence[Event]) -> None:
        """Add committed events."""
        self._waiting.extend(appended)
        self._bytes += sum(len(event.data) for event in appended)
        if len(self._waiting) > len(appended) and (len(self._waiting) > BACKLOG or self._bytes > BACKLOG_BYTES):
            self._drop()
            if self.live:
                self.close(End.SLOW)
        self._notify()

    def look_again(self) -> None:
        """Let the reader look into the database: there may be events that were not pushed."""
        self._stale = True
        self._notify()

    def close(self, end: End) -> None:
        """End the reader; the first reason counts."""
        self.end = self.end or end
        self._notify()

    def _drop(self) -> None:
        self._waiting = []
        self._bytes = 0

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self, timeout: float) -> list[Event] | None:  # noqa: ASYNC109 - the caller sends a comment then
        """Return what has come, None when nothing came in ``timeout`` seconds.

        Perhaps it is nothing, after an overflow or when the reader has to look into the database.
        """
        if not self._ready:
            # Made only while somebody waits, with a timer instead of a task: most streams are idle.
            loop = asyncio.get_running_loop()
            self._wake = loop.create_future()
            timer = loop.call_later(timeout, self._notify)
            try:
                await self._wake
            finally:
                timer.cancel()
                self._wake = None
            if not self._ready:
                return None
        taken = [] if self._stale else self._waiting
        self._stale = False
        self._drop()
        return taken

    @property
    def _ready(self) -> bool:
        return bool(self._waiting or self._stale or self.closed)
