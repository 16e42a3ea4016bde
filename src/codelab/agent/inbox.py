"""The inbox: what waits for a person in all their sessions, and the stream of its changes.

A change gets the person's next number in the transaction that makes it. The number of an approval is that of its last
change, so the rows themselves are the log: a reader that was away sees each approval once, as it is now, and nothing is
kept for readers but that there is something to look for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from codelab.agent.log import RETRY
from codelab.agent.paging import read_position
from codelab.agent.repository import inbox
from codelab.agent.repository.events import Event
from codelab.agent.schemas import Approval, InboxPage
from codelab.agent.subscription import End, Subscription
from codelab.db.faults import is_unavailable
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy import Row

    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("Inbox",)

logger = logging.getLogger(__name__)

#: Approvals that are read at once; each may be as large as the arguments of a call.
PAGE = 20


class Inbox:
    """Number the changes of approvals, and let readers follow those of a person."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._closing = False
        database.when_unknown(self._look_again)

    def changed(self, tx: Transaction, owner_id: str, request_id: str) -> None:
        """Note in this transaction that an approval of a person was made or decided."""
        inbox.number_later(tx.session, owner_id, request_id)
        tx.after_commit(partial(self._tell, owner_id))

    def _tell(self, owner_id: str) -> None:
        for subscription in self._subscriptions.get(owner_id, ()):
            subscription.look_again()

    def _look_again(self) -> None:
        for owner_id in self._subscriptions:
            self._tell(owner_id)

    def close(self) -> None:
        """End every reader, also those that come later: the server stops."""
        self._closing = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close(End.STOPPING)

    @property
    def readers(self) -> int:
        """How many readers follow their inbox now."""
        return sum(map(len, self._subscriptions.values()))

    async def newest(self, owner_id: str) -> int:
        """Return the number of the last change."""
        async with self._database.peek() as db:
            return await inbox.last_change(db, owner_id)

    async def list_page(self, principal: Principal, *, status: str | None, cursor: str | None, limit: int) -> InboxPage:
        """List a person's approvals, of one status where one is named, the last changed first.

        Raises:
            BadRequest: the cursor is none of this list.
        """
        before = read_position(cursor)
        async with self._database.read() as db:
            rows = await inbox.list_own(db, principal.subject, status=status, before=before, limit=limit + 1)
        more = str(rows[limit - 1].inbox_seq) if len(rows) > limit else None
        return InboxPage([Approval.from_row(row) for row in rows[:limit]], more)

    async def follow(
        self, owner_id: str, after: int, *, keep_alive: float, subscription: Subscription
    ) -> AsyncGenerator[list[Event], None]:
        """Yield batches of events after a number, each an approval as it is now; else as ``EventLog.follow``."""
        cursor = after
        if self._closing:
            subscription.close(End.STOPPING)
        self._subscriptions[owner_id].add(subscription)
        try:
            while subscription.end is None or subscription.end.owes:
                page = await self._after(owner_id, cursor)
                if page:
                    cursor = page[-1].seq
                    yield page
                elif subscription.closed:
                    return
                elif await subscription.take(keep_alive) is None:
                    yield []
        finally:
            self._subscriptions[owner_id].discard(subscription)
            if not self._subscriptions[owner_id]:
                del self._subscriptions[owner_id]

    async def _after(self, owner_id: str, after: int) -> list[Event]:
        """Read a page; a database that is away is waited for, so that a reader loses nothing but time."""
        while True:
            try:
                async with self._database.read() as db:
                    return [_event(row) for row in await inbox.changes_after(db, owner_id, after, PAGE)]
            except Exception as error:
                if self._closing or not is_unavailable(error):
                    raise
                logger.warning("an inbox waits for the database: %s", type(error).__name__)
                await asyncio.sleep(RETRY)


def _event(row: Row[Any]) -> Event:
    kind = "approval.requested" if row.status == "pending" else "approval.resolved"
    return Event(row.inbox_seq, kind, canonical_json(Approval.from_row(row)), row.decision_at or row.created_at)
