"""One log, many faces: what changes a session is appended here, and every client follows from here.

Events are appended in the transaction that makes the change and reach subscribers only after its commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from codelab.agent.repository import events
from codelab.agent.subscription import End, Subscription
from codelab.db.faults import is_unavailable
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.audit import AuditTrail
    from codelab.agent.repository.events import Delta, Event
    from codelab.db import Database, Transaction

__all__ = ("EVENT_TYPES", "EventLog")

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Every event type; ``docs/api.md`` describes the data of each, and a test holds the two together.
EVENT_TYPES = (
    "message.created",
    "message.steered",
    "turn.started",
    "context.summarised",
    "model.retrying",
    "message.started",
    "message.delta",
    "reasoning.delta",
    "message.completed",
    "tool.requested",
    "tool.claimed",
    "tool.completed",
    "approval.requested",
    "approval.resolved",
    "agent.switched",
    "plan.updated",
    "turn.waiting",
    "turn.completed",
    "turn.failed",
    "turn.cancelled",
)

PAGE = 500
#: Seconds until a reader asks a database again that was away.
RETRY = 0.5


class EventLog:
    """Append events, publish them after the commit, and let readers follow from any cursor."""

    def __init__(self, database: Database, audit: AuditTrail | None = None) -> None:
        self._database = database
        self._audit = audit
        self._subscriptions: defaultdict[int, set[Subscription]] = defaultdict(set)
        self._closing = False
        database.when_unknown(self._look_again)

    @property
    def audit(self) -> AuditTrail:
        """The trail for what must be proven later, beside what clients follow."""
        assert self._audit is not None
        return self._audit

    async def append(
        self, tx: Transaction, session_db_id: int, *new: tuple[str, dict[str, Any]], messages: int = 0
    ) -> int:
        """Append events in this transaction; return the ``seq`` of the last."""
        encoded = [(kind, canonical_json(data)) for kind, data in new]
        appended = await events.append(tx.session, session_db_id, encoded, messages=messages)
        tx.after_commit(partial(self._publish, session_db_id, appended))
        return appended[-1].seq

    async def append_deltas(self, tx: Transaction, deltas: Sequence[Delta], owner: str) -> None:
        """Append one event each to the logs of turns that run under this owner's lease, as one."""
        for session_db_id, event in await events.append_deltas(tx.session, deltas, owner):
            tx.after_commit(partial(self._publish, session_db_id, (event,)))

    def _publish(self, session_db_id: int, appended: Sequence[Event]) -> None:
        for subscription in self._subscriptions.get(session_db_id, ()):
            subscription.push(appended)

    def _look_again(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.look_again()

    def close_session(self, session_db_id: int, end: End = End.DELETED) -> None:
        """End every reader of a session."""
        for subscription in self._subscriptions.get(session_db_id, ()):
            subscription.close(end)

    def close(self) -> None:
        """End every reader, also those that come later: the server stops."""
        self._closing = True
        for session_db_id in list(self._subscriptions):
            self.close_session(session_db_id, End.STOPPING)

    @property
    def readers(self) -> int:
        """How many readers follow a session now."""
        return sum(map(len, self._subscriptions.values()))

    @contextmanager
    def subscribe(self, session_db_id: int, subscription: Subscription) -> Iterator[None]:
        """Collect what is committed to a session from now on."""
        if self._closing:
            subscription.close(End.STOPPING)
        self._subscriptions[session_db_id].add(subscription)
        try:
            yield
        finally:
            self._subscriptions[session_db_id].discard(subscription)
            if not self._subscriptions[session_db_id]:
                del self._subscriptions[session_db_id]

    async def newest(self, session_db_id: int) -> int:
        """Return the ``seq`` of the newest event."""
        newest, _ = await self._position(session_db_id)
        return newest

    async def page(self, session_db_id: int, after: int, limit: int) -> tuple[list[Event], int]:
        """Return the events after a cursor, ``limit`` at most, and the ``seq`` of the newest, which is not older."""
        page = await self._after(session_db_id, after, limit)
        return page, await self.newest(session_db_id)

    async def follow(
        self, session_db_id: int, after: int, *, keep_alive: float, subscription: Subscription | None = None
    ) -> AsyncGenerator[list[Event], None]:
        """Yield batches of events after a cursor, first from the database, then as they are committed.

        An empty batch means that nothing happened for ``keep_alive`` seconds. Ends when the subscription is closed, and
        ``subscription.end`` says why then. The subscription is made before the first read, so that no event falls
        between them; ``seq`` removes what came twice.
        """
        cursor = after
        subscription = subscription or Subscription()
        with self.subscribe(session_db_id, subscription):
            while not subscription.closed:
                subscription.live = False
                newest, exists = await self._position(session_db_id)
                if not exists:
                    subscription.close(End.DELETED)  # just before there was anybody to tell
                    break
                page = await self._after(session_db_id, cursor, PAGE) if cursor < newest else []
                if page:
                    cursor = page[-1].seq
                    yield page
                    continue
                subscription.live = True
                while not subscription.closed:
                    taken = await subscription.take(keep_alive)
                    if taken is None:
                        yield []
                        continue
                    fresh = [event for event in taken if event.seq > cursor]
                    if not fresh or fresh[0].seq != cursor + 1:
                        break  # an overflow, or a cursor beyond the end: the database knows
                    if subscription.end is not None and not subscription.end.owes:
                        break
                    cursor = fresh[-1].seq
                    yield fresh
            while subscription.end is not None and subscription.end.owes:
                rest = await self._after(session_db_id, cursor, PAGE)
                if not rest:
                    break
                cursor = rest[-1].seq
                yield rest

    async def _position(self, session_db_id: int) -> tuple[int, bool]:
        return await self._ask(self._database.peek, lambda db: events.position(db, session_db_id))

    async def _after(self, session_db_id: int, after: int, limit: int) -> list[Event]:
        return await self._ask(self._database.read, lambda db: events.list_after(db, session_db_id, after, limit))

    async def _ask(
        self,
        open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]],
        query: Callable[[AsyncSession], Awaitable[T]],
    ) -> T:
        """Run a query; a database that is away is waited for, so that a reader loses nothing but time."""
        while True:
            try:
                async with open_session() as db:
                    return await query(db)
            except Exception as error:
                if self._closing or not is_unavailable(error):
                    raise
                logger.warning("an event stream waits for the database: %s", type(error).__name__)
                await asyncio.sleep(RETRY)
