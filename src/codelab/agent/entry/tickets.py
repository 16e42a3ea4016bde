"""One-time tickets for WebSockets: a browser cannot send a header with one, and a token in an address is in every log.

They are kept in memory: one process serves a database, and a ticket that a restart forgets is asked for anew.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from codelab.errors import Unauthenticated
from codelab.identity import challenge

if TYPE_CHECKING:
    from codelab.agent.readers import StillValid
    from codelab.identity import Principal

__all__ = ("TICKET_SECONDS", "Tickets", "is_valid")

#: Seconds in which a ticket must be used.
TICKET_SECONDS = 30
#: Tickets that are kept at most; the oldest go first.
MOST = 10_000


class _Ticket(NamedTuple):
    principal: Principal
    session_id: str
    until: float


class Tickets:
    """Give out tickets and take each once."""

    def __init__(self, still_valid: StillValid | None) -> None:
        self._still_valid = still_valid
        #: By the hash, so that a dump of this process does not hold what is in use.
        self._open: OrderedDict[bytes, _Ticket] = OrderedDict()

    def issue(self, principal: Principal, session_id: str) -> str:
        """Make a ticket with which a socket of one session may be opened on behalf of one caller."""
        at = time.monotonic()
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.until > at and len(self._open) < MOST:
                break
            self._open.popitem(last=False)
        ticket = secrets.token_urlsafe(32)
        self._open[_hash(ticket)] = _Ticket(principal, session_id, at + TICKET_SECONDS)
        return ticket

    async def redeem(self, ticket: str, session_id: str) -> Principal:
        """Return whose ticket it is; it is used up, whatever comes of it.

        Raises:
            Unauthenticated: it is none, was used, has expired, is for another session, or its owner is disabled.
        """
        found = self._open.pop(_hash(ticket), None)
        if (
            found is None
            or found.until <= time.monotonic()
            or found.session_id != session_id
            or not await is_valid(found.principal, self._still_valid)
        ):
            raise Unauthenticated("The ticket is not valid; ask for a new one.", code="bad_ticket", headers=challenge())
        return found.principal


async def is_valid(principal: Principal, still_valid: StillValid | None) -> bool:
    """Tell whether what proved a caller earlier still does."""
    if principal.expires_at is not None and principal.expires_at <= time.time():
        return False
    return still_valid is None or principal in await still_valid({principal})


def _hash(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode(errors="replace")).digest()
