"""Sockets of clients that send nothing to prove who they are (``AGENT_RUNTIME__LEGACY_WEBSOCKET``, off by default).

Such a client is taken for the person who just used the same session from the same address. Whoever shares that address
can be taken for them too, which is why ``docs/reference-clients.md`` says when not to switch it on, and why it works
only where the address means something: no proxy in between, and no public address.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from codelab.agent.entry.tickets import is_valid

if TYPE_CHECKING:
    from collections.abc import Collection

    from litestar.types import Scope

    from codelab.agent.readers import StillValid
    from codelab.identity import Principal

__all__ = ("LEGACY", "MADE", "Acquaintances")

logger = logging.getLogger(__name__)

#: The sockets with this in ``opt`` are those that such clients know.
LEGACY = "legacy_websocket"
#: Where the state of a request keeps the id of the session that it made.
MADE = "codelab.made"
#: Seconds after which a caller is forgotten.
REMEMBERED = 600.0
#: Callers that are remembered at most; the oldest go first.
MOST = 10_000
_FORWARDED = {
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
}


class Acquaintances:
    """Remember who used which session from where, and take a nameless socket from there for them."""

    def __init__(self, still_valid: StillValid | None, *, origins: Collection[str], behind_proxy: bool) -> None:
        self._still_valid = still_valid
        self._origins = {origin.encode() for origin in origins}
        self._behind_proxy = behind_proxy
        self._seen: OrderedDict[tuple[str, str], dict[str, tuple[float, Principal]]] = OrderedDict()

    def note(self, scope: Scope, principal: Principal, session_id: str) -> None:
        """Remember the caller of a request that made a session, or read it by its id."""
        address = self._address(scope)
        if address is None:
            return
        callers = self._seen.setdefault((address, session_id), {})
        callers[principal.subject] = (time.monotonic() + REMEMBERED, principal)
        self._seen.move_to_end((address, session_id))
        while len(self._seen) > MOST:
            self._seen.popitem(last=False)

    async def find(self, scope: Scope, session_id: str) -> Principal | None:
        """Return for whom a nameless socket is taken, None for nobody; the log says why."""
        address, at = self._address(scope), time.monotonic()
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if address is None:
            return self._refuse("it comes through a proxy or from a public address")
        if any(origin not in self._origins for origin in origins):
            return self._refuse("its Origin is not one of AGENT_RUNTIME__LEGACY_WEBSOCKET_ORIGINS")
        callers = self._seen.get((address, session_id), {})
        known = [principal for until, principal in callers.values() if until > at]
        if len(known) != 1:
            return self._refuse("one person has to have used that session from that address in the last ten minutes")
        if not await is_valid(known[0], self._still_valid):
            return self._refuse("the token with which the session was used is no longer valid")
        return known[0]

    def _address(self, scope: Scope) -> str | None:
        """Return the address of a peer if it is that of the client itself, in the same network."""
        if self._behind_proxy or any(name in _FORWARDED for name, _ in scope["headers"]):
            return None
        client = scope.get("client")
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(address) if address.is_private and not address.is_unspecified else None

    @staticmethod
    def _refuse(reason: str) -> None:
        logger.info("a socket without a token was refused: %s", reason)
