"""Commit, then tell: what readers are given is in the database already."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from codelab.agent.log import EventLog
from codelab.agent.repository import sessions
from codelab.agent.subscription import Subscription
from codelab.db import new_id
from tests.agent.transcripts import END
from tests.agent.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.repository.events import Event
    from codelab.db import Database, Transaction
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person


class _Suspicious(Subscription):
    """Look into the database, as another program would, in the moment in which events are told."""

    __slots__ = ("_databases", "missing", "told")

    def __init__(self, databases: DatabaseUrls) -> None:
        super().__init__()
        self._databases = databases
        self.told: list[int] = []
        self.missing: list[int] = []

    def push(self, appended: Sequence[Event]) -> None:
        """Keep which events are told, and which of them nobody else can see yet."""
        found: list[tuple[Any, ...]] = []

        async def look() -> None:
            async with Witness.at(self._databases) as witness:
                found.extend(await witness.rows("SELECT seq FROM session_events"))

        # The event loop stands still meanwhile, so that nothing can be committed between the telling and the look.
        thread = threading.Thread(target=asyncio.run, args=(look(),))
        thread.start()
        thread.join()
        self.told += [event.seq for event in appended]
        self.missing += [event.seq for event in appended if (event.seq,) not in found]
        super().push(appended)


async def test_an_event_is_told_after_its_commit(database: Database, migrated: DatabaseUrls) -> None:
    """In the moment in which a reader is told of an event, every other program can read it."""
    log = EventLog(database)
    subscription = _Suspicious(migrated)

    async def add(tx: Transaction) -> None:
        await sessions.add(tx.session, session_id=new_id(), owner_id="ada", title=None, agent="ask", metadata={})

    await database.write(add)
    async with database.read() as db:
        key = int((await sessions.list_live(db, "ada", limit=1, before=None, text=None))[0].db_id)
    with log.subscribe(key, subscription):
        for number in range(3):

            async def append(tx: Transaction, number: int = number) -> None:
                await log.append(tx, key, ("message.created", {"number": number}), ("turn.started", {}))

            await database.write(append)

    assert [1, 2, 3, 4, 5, 6] == subscription.told
    assert [] == subscription.missing


async def test_a_message_begins_its_turn(ada: Person, migrated: DatabaseUrls) -> None:
    """Where nothing is before it, the turn of a message begins with the commit that keeps the message."""
    session = await ada.session(agent="ask")
    await ada.say(session, "hello")
    await ada.until(session, *END)
    async with Witness.at(migrated) as witness:
        began = await witness.rows(
            "SELECT type, created_at FROM session_events WHERE type IN ('message.created', 'turn.started') ORDER BY seq"
        )

    assert ["message.created", "turn.started"] == [kind for kind, _ in began]
    assert began[0][1] == began[1][1]
