"""One log, three faces: Server-Sent Events, the WebSocket and pages of JSON give the same sequence."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from tests.agent.transcripts import END
from tests.support.server import Event
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tests.support.server import Person


DROPS = 20


class Source(Protocol):
    """Give events after a cursor, for ever."""

    def __call__(self, person: Person, session: str, after: int) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Connect."""


@asynccontextmanager
async def by_stream(person: Person, session: str, after: int) -> AsyncIterator[AsyncIterator[Event]]:
    """Follow Server-Sent Events."""
    async with person.following(session, after=after) as events:
        yield events


@asynccontextmanager
async def by_socket(person: Person, session: str, after: int) -> AsyncIterator[AsyncIterator[Event]]:
    """Follow a WebSocket."""
    async with socket_of(person, session, after=after) as socket:

        async def events() -> AsyncIterator[Event]:
            while True:
                await socket.read()
                yield socket.events[-1]

        yield events()


@asynccontextmanager
async def by_pages(person: Person, session: str, after: int) -> AsyncIterator[AsyncIterator[Event]]:
    """Ask for pages of random sizes, again and again."""

    async def events(after: int) -> AsyncIterator[Event]:
        while True:
            params = {"format": "json", "after": str(after), "limit": str(random.randint(1, 40))}
            page = (await person.http.get(f"/api/v1/sessions/{session}/events", params=params)).json()
            for event in page["events"]:
                yield Event(event["seq"], event["type"], event["data"])
            after = page["next_after"]

    yield events(after)


class Reader:
    """A client that is dropped at random and comes back with its cursor."""

    def __init__(self, person: Person, session: str, source: Source) -> None:
        self._person = person
        self._session = session
        self._source = source
        self.seen: list[Event] = []
        self.drops = 0

    async def read(self, until: asyncio.Future[int]) -> None:
        """Read until the ``seq`` that ``until`` tells some day; until then be dropped as often as it takes."""
        while not (until.done() and len(self.seen) >= until.result()):
            stay = random.choice((0, 1, 2, random.randint(3, 30)))
            async with self._source(self._person, self._session, self.seen[-1].seq if self.seen else 0) as events:
                async for event in events:
                    if not until.done() and not stay:
                        break  # what was just received is lost
                    self.seen.append(event)
                    stay -= 1
                    if until.done() and event.seq >= until.result():
                        break
            self.drops += 1


async def test_three_clients_that_drop_and_resume_see_the_same(ada: Person) -> None:
    """Each is cut off twenty times while answers stream, each on another face: the same sequence, nothing twice."""
    session = await ada.session(agent="ask")
    readers = [Reader(ada, session, source) for source in (by_stream, by_socket, by_pages)]
    until: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(120):
        reading = [asyncio.create_task(reader.read(until)) for reader in readers]
        newest = 0
        while min(reader.drops for reader in readers) < DROPS:
            await ada.say(session, "count to 20")
            newest = (await ada.until(session, *END, after=newest))[-1].seq
        until.set_result(newest)
        # One that waits for what is new is told now that there is more.
        await ada.say(session, "count to 1")
        await asyncio.gather(*reading)
    first, second, third = (reader.seen[:newest] for reader in readers)

    assert [event.seq for event in first] == list(range(1, newest + 1))
    assert first == second == third
    assert min(reader.drops for reader in readers) >= DROPS
