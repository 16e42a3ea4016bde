"""The ASGI middleware that looks for a caller where module auth found none."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware

from codelab.agent.entry.legacy import LEGACY, MADE, Acquaintances
from codelab.identity import Principal

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from codelab.agent.entry.internal import InternalKey
    from codelab.agent.entry.tickets import Tickets

__all__ = ("ENTRY", "Entry")

#: The routes with this in ``opt`` are those of this module.
ENTRY = "codelab.entry"


class Entry(ASGIMiddleware):
    """Set ``scope["user"]`` by the internal key, and on sockets by a ticket or as an acquaintance."""

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    def __init__(self, internal: InternalKey, tickets: Tickets, acquaintances: Acquaintances | None) -> None:
        self._internal = internal
        self._tickets = tickets
        self._acquaintances = acquaintances

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Find the caller; raises ``Unauthenticated`` for a key or a ticket that is not valid."""
        if not scope["route_handler"].opt.get(ENTRY):
            await next_app(scope, receive, send)
            return
        if scope.get("user") is None:
            scope["user"] = await self._find(scope)
        if self._acquaintances is not None and scope["type"] == ScopeType.HTTP:
            send = self._noting(scope, send, self._acquaintances)
        await next_app(scope, receive, send)

    async def _find(self, scope: Scope) -> Principal | None:
        principal = self._internal.find(scope)
        if principal is not None or scope["type"] != ScopeType.WEBSOCKET:
            return principal
        session_id = str(scope["path_params"].get("session_id", ""))
        tickets = parse_qs(scope["query_string"].decode("latin-1")).get("ticket")
        if tickets:
            return await self._tickets.redeem(tickets[-1], session_id)
        if self._acquaintances is not None and scope["route_handler"].opt.get(LEGACY):
            return await self._acquaintances.find(scope, session_id)
        return None

    @staticmethod
    def _noting(scope: Scope, send: Send, acquaintances: Acquaintances) -> Send:
        """Remember who made a session, or read it by its id, once that was answered well."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < HTTPStatus.BAD_REQUEST:
                principal, read = scope.get("user"), scope.get("method") == "GET"
                named = scope["path_params"].get("session_id") if read else scope["state"].get(MADE)
                if isinstance(principal, Principal) and named is not None:
                    acquaintances.note(scope, principal, str(named))
            await send(message)

        return cast("Send", answer)
