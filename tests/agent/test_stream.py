"""The event stream: any cursor, any reader, nothing twice, nothing missing, nothing too early."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from codelab.agent import log as log_module
from codelab.agent import stream as stream_module
from codelab.agent import subscription as subscription_module
from codelab.agent.repository.events import Event as Row
from codelab.agent.subscription import End, Subscription
from codelab.db import now
from codelab.text import canonical_json
from tests.agent.transcripts import END, types
from tests.agent.witness import Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Event, Person, Running


async def talk(ada: Person, count: int = 20) -> tuple[str, list[Event]]:
    """Make a session with one completed turn; return its whole log."""
    session = await ada.session(agent="ask")
    await ada.say(session, f"count to {count}")
    return session, await ada.until(session, *END)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """Read so many events."""
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


class TestCursor:
    async def test_every_cursor_gives_the_rest_of_the_log(self, ada: Person) -> None:
        """The stream is the same log whenever and from wherever it is read, also as it is stored."""
        session, whole = await talk(ada)
        assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
        for after in range(len(whole)):
            async with ada.following(session, after=after) as events:
                assert await take(events, len(whole) - after) == whole[after:]

    async def test_after_wins_over_last_event_id(self, ada: Person) -> None:
        """A browser's header resumes; a parameter says more than it."""
        session, whole = await talk(ada)
        cases: list[tuple[dict[str, Any], int]] = [
            ({}, 1),
            ({"last_event_id": 3}, 4),
            ({"after": 2}, 3),
            ({"after": 2, "last_event_id": 4}, 3),
            ({"after": 0, "last_event_id": 4}, 1),
            ({"after": "", "last_event_id": 4}, 5),
            ({"last_event_id": ""}, 1),
        ]
        for cursor, first in cases:
            async with ada.following(session, **cursor) as events:
                assert (await take(events, 1))[0] == whole[first - 1], cursor

    async def test_latest_gives_only_what_is_new(self, ada: Person) -> None:
        """Nothing of the past, and the very next event."""
        session, whole = await talk(ada)
        async with ada.following(session, after="latest", last_event_id=1) as events:
            accepted = await ada.say(session, "count to 1")
            first = (await take(events, 1))[0]

        assert first.seq == accepted["seq"] == len(whole) + 1

    async def test_a_bad_cursor_is_refused_by_name(self, ada: Person) -> None:
        """Only whole numbers from 0 name a place, in either form."""
        session = await ada.session()
        url = f"/api/v1/sessions/{session}/events"
        for wrong in ("-1", "1.5", "x", "٣", "0x1", "9" * 19, "1e3", " 1", "\x00", "Latest"):
            answer = await ada.http.get(url, params={"after": wrong})
            assert (answer.status_code, answer.json()["field"]) == (400, "after"), wrong
        for header in (b"-1", b"x", b"latest", b"\xff", b"9" * 19):
            answer = await ada.http.get(url, headers={b"Last-Event-ID": header})
            assert (answer.status_code, answer.json()["field"]) == (400, "Last-Event-ID"), header

    async def test_a_cursor_beyond_the_end_waits(self, ada: Person) -> None:
        """It misses what lies between and then goes on; it does not spin, fail or repeat."""
        session, whole = await talk(ada, 1)
        beyond = len(whole) + 2
        async with ada.following(session, after=beyond) as events:
            await ada.say(session, "count to 1")
            seen = [event async for event in _until_end(events)]

        assert [event.seq for event in seen] == list(range(beyond + 1, 2 * len(whole) + 1))


async def _until_end(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async with asyncio.timeout(30):
        async for event in events:
            yield event
            if event.type in END:
                return


class TestForm:
    async def test_what_the_stream_looks_like(self, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each event is id, event and one line of data; a silent stream says a comment; nobody may cache it."""
        monkeypatch.setattr(stream_module, "KEEP_ALIVE", 0.05)
        session, whole = await talk(ada, 2)
        lines: list[str] = []
        async with ada.http.stream("GET", f"/api/v1/sessions/{session}/events") as response:
            async with asyncio.timeout(30):
                async for line in response.aiter_lines():
                    lines.append(line)
                    if lines[-3:] == [": keep-alive", "", ": keep-alive"]:
                        break
        expected = ["retry: 1000", ""]
        for event in whole:
            expected += [f"id: {event.seq}", f"event: {event.type}", f"data: {canonical_json(event.data)}", ""]

        assert lines == [*expected, ": keep-alive", "", ": keep-alive"]
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"

    async def test_text_of_any_kind_stays_one_line(self, ada: Person) -> None:
        """Line ends of every sort, and characters beyond the BMP, come through as they were sent."""
        session = await ada.session(agent="ask")
        content = "count to 1\r\n\n\rdata: x\n\nid: 99\u2028\u2029\x85 \U0001f600 é"
        await ada.say(session, content)
        created = (await ada.until(session, *END))[0]

        assert (created.seq, created.data["content"]) == (1, content)


class TestEnd:
    async def test_a_reader_gets_everything_before_the_end(
        self, running: Running, ada: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A session is deleted while a reader is pages behind: all that was committed is delivered, then the end."""
        monkeypatch.setattr(log_module, "PAGE", 10)
        log = running.app.state.agent.log
        session, whole = await talk(ada)
        await ada.say(session, "count to 20")
        await ada.until(session, *END, after=whole[-1].seq)
        key = await _key(running, session)
        following = log.follow(key, 0, keep_alive=30)
        seen = list(await anext(following))
        newest = await log.newest(key)
        await ada.http.delete(f"/api/v1/sessions/{session}")
        async with asyncio.timeout(30):
            async for batch in following:
                seen += batch

        assert newest > 20
        assert [event.seq for event in seen] == list(range(1, newest + 1))

    async def test_a_reader_that_comes_just_after_the_deletion_ends(self, running: Running, ada: Person) -> None:
        """Between the check of the session and the subscription it may be deleted; nobody waits for ever."""
        session, whole = await talk(ada, 1)
        key = await _key(running, session)
        await ada.http.delete(f"/api/v1/sessions/{session}")
        seen: list[Any] = []
        async with asyncio.timeout(30):
            async for batch in running.app.state.agent.log.follow(key, 0, keep_alive=30):
                seen += batch

        assert [event.seq for event in seen] == [event.seq for event in whole]
        assert running.app.state.agent.log.readers == 0

    async def test_readers_that_leave_are_forgotten(self, running: Running, ada: Person) -> None:
        """A dropped connection frees its subscription."""
        session, _ = await talk(ada, 1)
        log = running.app.state.agent.log
        for _ in range(5):
            async with ada.following(session) as events:
                await take(events, 1)
                assert log.readers >= 1
        async with asyncio.timeout(30):
            while log.readers:
                await asyncio.sleep(0.01)


class TestReaders:
    async def test_a_slow_reader_is_ended_costs_little_and_misses_nothing(
        self, running: Running, ada: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More than the backlog while it sleeps: it ends, is never served a hole, and its cursor brings the rest."""
        monkeypatch.setattr(subscription_module, "BACKLOG", 64)
        monkeypatch.setattr(log_module, "PAGE", 50)
        log = running.app.state.agent.log
        database = running.app.state.agent.database
        session, whole = await talk(ada, 1)
        key = await _key(running, session)
        new = [("message.delta", {"message_id": "m", "offset": n, "text": "x"}) for n in range(30)]
        seen: list[Any] = []
        most, newest, ended = 0, len(whole), 0
        async with asyncio.timeout(60):
            for _ in range(5):
                subscription = Subscription()
                following = log.follow(key, len(seen), keep_alive=30, subscription=subscription)
                while len(seen) < newest:
                    seen += await anext(following)
                awake = asyncio.create_task(anext(following))
                while not subscription.live:  # it still looks whether the database has more
                    await asyncio.sleep(0)
                for number in range(6):  # one while it waits, five while it sleeps: 30, 60, none
                    newest = await database.write(lambda tx: log.append(tx, key, *new))
                    most = max(most, len(subscription._waiting))
                    if number == 0:
                        seen += await awake
                with pytest.raises(StopAsyncIteration):
                    await anext(following)
                ended += subscription.end is End.SLOW
        async for batch in log.follow(key, len(seen), keep_alive=30):
            seen += batch
            if len(seen) >= newest:
                break

        assert ended == 5
        assert 0 < most <= 64
        assert [event.seq for event in seen] == list(range(1, newest + 1))

    async def test_large_events_wait_in_bounded_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few but large events end a slow reader as well; one alone always gets through."""
        monkeypatch.setattr(subscription_module, "BACKLOG_BYTES", 100)
        subscription = Subscription()
        subscription.live = True
        large = Row(1, "tool.completed", "x" * 1000, now())
        subscription.push([large])
        assert await subscription.take(30) == [large]
        subscription.push([Row(2, "x", "x" * 60, now())])
        subscription.push([Row(3, "x", "x" * 60, now())])

        assert subscription.end is End.SLOW
        assert subscription._waiting == []

    async def test_readers_that_drop_and_resume_all_see_the_same(self, ada: Person) -> None:
        """Twenty readers, cut off at random places while an answer streams, each end with the same sequence."""
        session = await ada.session(agent="ask")
        rng = random.Random(20261123)

        async def read(number: int) -> list[Event]:
            seen: list[Event] = []
            while not seen or seen[-1].type not in END:
                cursor = seen[-1].seq if seen else 0
                how: dict[str, Any] = {"after": cursor} if number % 2 else {"last_event_id": cursor}
                async with ada.following(session, **how) as events:
                    for _ in range(rng.randint(1, 12)):
                        seen.append(await anext(events))
                        if seen[-1].type in END:
                            break
            return seen

        async with asyncio.timeout(60):
            readers = [asyncio.create_task(read(number)) for number in range(20)]
            await ada.say(session, "count to 150")
            logs = await asyncio.gather(*readers)

        assert [event.seq for event in logs[0]] == list(range(1, len(logs[0]) + 1))
        assert types(logs[0])[-1] == "turn.completed"
        assert all(seen == logs[0] for seen in logs)

    async def test_nothing_is_seen_before_it_is_committed(self, ada: Person, migrated: DatabaseUrls) -> None:
        """At the moment an event arrives, a connection of another program finds it in the database."""
        session = await ada.session(agent="ask")
        async with Witness.at(migrated) as witness, ada.following(session) as events:
            await ada.say(session, "count to 60")
            seen = 0
            async for event in _until_end(events):
                stored = await witness.find_event(session, event.seq)
                assert stored == (event.type, canonical_json(event.data))
                seen += 1

        assert seen > 5


async def _key(running: Running, session: str) -> int:
    async with running.app.state.agent.database.read() as db:
        found = await db.execute(text("SELECT db_id FROM sessions WHERE id = :id"), {"id": session})
        key: int = found.scalar_one()
        return key
