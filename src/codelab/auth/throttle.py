"""Slow down who guesses passwords and codes, without locking anybody out.

Only failures count: those of one address about one name, and all of one address. So nobody can keep a person out who
comes from elsewhere; and a name that nobody has is counted like any other, which says nothing about it. The counts are
in the database, under hashes, and survive a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.errors import OAuthError
from codelab.auth.repository import throttle
from codelab.auth.repository.throttle import CountRecord
from codelab.db import now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db import Database

__all__ = ("FIRST_WAIT", "Attempt", "Throttle", "Throttled")

#: The time in which failures count together.
WINDOW = timedelta(minutes=1)
#: What has to be waited for at first; each time it is twice as long, up to the longest.
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(minutes=15)
#: After this long without a failure the next wait is the first one again.
FORGET = timedelta(hours=1)


class Throttled(OAuthError):
    """Refuse to look at a password or code, because too many were wrong (RFC 6585 section 4)."""

    status, title, code = 429, "Too Many Requests", "slow_down"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many failures; try again in {seconds} seconds", headers={"Retry-After": str(seconds)})
        self.seconds = seconds


class Attempt(NamedTuple):
    """One try that was let through: the ids of its counts, and how many failures each may have."""

    pair: str
    address: str
    limits: dict[str, int]


class Throttle:
    """Count failures; ``per_account`` and ``per_address`` are how many there may be in a minute."""

    def __init__(self, database: Database, *, per_account: int, per_address: int) -> None:
        self._database = database
        self._per_account = per_account
        self._per_address = per_address
        self._running: Counter[str] = Counter()
        self._ended = asyncio.Condition()

    @asynccontextmanager
    async def attempt(self, address: str | None, account: str) -> AsyncIterator[Attempt]:
        """Let somebody try, once not more tries are under way than may fail.

        ``account`` is what they claim to be, or what they guess at. In the block the outcome is noted.

        Raises:
            Throttled: they have to wait.
        """
        place = network_of(address)
        pair, everything = _hash("account", place, account), _hash("address", place)
        attempt = Attempt(pair, everything, {pair: self._per_account, everything: self._per_address})
        async with self._ended:
            while await self._is_full(attempt):
                await self._ended.wait()
            self._running.update(attempt.limits.keys())
        try:
            yield attempt
        finally:
            async with self._ended:
                self._running.subtract(attempt.limits.keys())
                self._running += Counter()  # without those at zero
                self._ended.notify_all()

    async def _is_full(self, attempt: Attempt) -> bool:
        # Asked first, so that not everybody who waits reads the database each time that somebody is done.
        if any(self._running[count_id] >= limit for count_id, limit in attempt.limits.items()):
            return True
        at = now()
        async with self._database.read() as session:
            counts = {each.id: each for each in await throttle.find_counts(session, attempt.limits, at)}
        blocked = [
            each.blocked_until - at for each in counts.values() if each.blocked_until and each.blocked_until > at
        ]
        if blocked:
            raise Throttled(math.ceil(max(blocked).total_seconds()))
        for count_id, limit in attempt.limits.items():
            known = counts.get(count_id)
            failed = known.failures if known and at - known.since < WINDOW else 0
            if self._running[count_id] and self._running[count_id] + failed >= limit:
                return True
        return False

    @staticmethod
    async def note_failure(session: AsyncSession, attempt: Attempt, at: datetime) -> bool:
        """Count a failure; tell whether the next try has to wait."""
        known = {each.id: each for each in await throttle.find_counts(session, attempt.limits, at)}
        blocks = False
        for count_id, limit in attempt.limits.items():
            count = known.get(count_id) or CountRecord(count_id, 0, at, 0, None, at)
            if at - count.since >= WINDOW:
                count = count._replace(failures=0, since=at)
            count = count._replace(failures=count.failures + 1, expires_at=at + FORGET)
            if count.failures >= limit:
                until = at + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(count.waits, 10))
                count = count._replace(
                    failures=0, since=until, waits=count.waits + 1, blocked_until=until, expires_at=until + FORGET
                )
                blocks = True
            await throttle.keep_count(session, count)
        return blocks

    @staticmethod
    async def note_success(session: AsyncSession, attempt: Attempt) -> None:
        """Forget the failures about this account; those of the address stay."""
        await throttle.delete_count(session, attempt.pair)


def network_of(address: str | None) -> str:
    """Name what counts as one address: of IPv6 the network of 64 bits, since one person has all of it."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()
