"""The lease of a running turn: one process works on it, and no other while the lease is valid.

The owner in the turn's row is what counts: a process that reads another's there writes nothing about the turn any more.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.repository import leases, turns
from codelab.db import new_id, now
from codelab.db.faults import FAILURES
from codelab.errors import Unavailable

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

    from codelab.db import Database, Transaction

__all__ = ("Lease", "Leases", "find_own", "is_free")

logger = logging.getLogger(__name__)

#: Seconds that a stop waits for the database to take the leases back; they end by themselves.
GIVE_BACK = 2.0


class Lease(msgspec.Struct, frozen=True):
    """Say how this process leases turns: for how many ``seconds`` at a time, and under which name."""

    seconds: float
    owner: str = msgspec.field(default_factory=new_id)

    @property
    def until(self) -> datetime:
        """When a lease ends that is made or renewed now."""
        return now() + timedelta(seconds=self.seconds)


def is_free(turn: Row[Any]) -> bool:
    """Tell whether no process works on a running turn: its lease was given back, or was not renewed in time."""
    return turn.lease_owner is None or turn.lease_expires_at is None or turn.lease_expires_at <= now()


async def find_own(tx: Transaction, session_db_id: int, turn_id: str, owner: str) -> Row[Any] | None:
    """Return the turn while it is this session's running one, and ``owner``'s.

    A person may have cancelled it meanwhile, or another process taken it over.
    """
    turn = await turns.find_active(tx.session, session_db_id, lock=True)
    mine = turn is not None and turn.id == turn_id and turn.state == "running" and turn.lease_owner == owner
    return turn if mine else None


class Leases:
    """Keep the leases of this process."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease
        self.owner = lease.owner

    async def claim(self, tx: Transaction, turn: Row[Any]) -> None:
        """Make a free turn this process' own."""
        await leases.claim(tx.session, turn.db_id, self.owner, self._lease.until)

    async def renew(self) -> set[str]:
        """Renew all leases of this process; return the ids of the turns that it has."""
        return await self._database.write(lambda tx: leases.renew(tx.session, self.owner, self._lease.until))

    async def give_back(self) -> None:
        """End all leases of this process, so that the next one need not wait."""
        try:
            async with asyncio.timeout(GIVE_BACK):
                await self._database.write(lambda tx: leases.release(tx.session, self.owner))
        except (*FAILURES, Unavailable) as error:
            logger.warning("the leases of the turns were not given back: %s", type(error).__name__)

    async def free_all(self) -> None:
        """End the leases of every process: it is proven that none but this one is there."""
        await self._database.write(lambda tx: leases.free_all(tx.session))

    async def list_unattended(self) -> list[int]:
        """Return the sessions with work that no other process does; this one may be at it."""
        async with self._database.read() as db:
            return await leases.list_unattended(db, now(), self.owner)
