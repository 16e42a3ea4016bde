"""What the audit trail says of clients and grants that were refused."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from codelab.auth.errors import InvalidClient, OAuthError, WrongCredentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.auth.audit import Audit, Event
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction

__all__ = ("Refusals",)


class Refusals:
    """Record what tells of somebody who tries: wrong secrets, and codes and tokens that are no good.

    What is merely malformed is not recorded, nor what has a row of its own: a wrong password, a replay.
    """

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    @asynccontextmanager
    async def recorded(self, client_id: str, origin: Origin, grant: str | None = None) -> AsyncIterator[None]:
        """Let an error pass, recorded; ``grant`` is what the client wanted, None while it proves who it is."""
        try:
            yield
        except OAuthError as error:
            refused = isinstance(error, InvalidClient) or error.code == "invalid_grant"
            if refused and not error.recorded and not isinstance(error, WrongCredentials):
                await self._record(error, client_id, origin, grant)
            raise

    async def _record(self, error: OAuthError, client_id: str, origin: Origin, grant: str | None) -> None:
        event: Event = "client_refused" if grant is None else "grant_refused"
        data = {} if grant is None else {"grant_type": grant}

        async def unit(transaction: Transaction) -> None:
            said = {"user_id": None, "client_id": client_id[:255], "error": error.detail}
            self._audit.record(transaction.session, event, origin, **said, **data)

        await self._database.write(unit)
