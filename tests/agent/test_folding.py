"""Folding: old deltas go, their text stays, and no cursor ever gets lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from codelab.agent import log as log_module
from codelab.agent.folding import fold
from codelab.agent.repository.folding import folded_ranges
from codelab.db import now
from codelab.db.upkeep import Batches
from tests.agent.transcripts import END, last, types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from codelab.agent.repository.folding import Folded
    from codelab.db import Database
    from tests.support.server import Event, Person, Running


async def fold_all(running: Running) -> int:
    """Fold every turn that has ended."""
    database: Database = running.app.state.agent.database
    return await fold(database, Batches(database), now() + timedelta(seconds=1))


async def key_of(running: Running, session: str) -> int:
    """Return the internal key of a session."""
    async with running.app.state.agent.database.read() as db:
        found = await db.execute(text("SELECT db_id FROM sessions WHERE id = :id"), {"id": session})
        key: int = found.scalar_one()
        return key


async def ranges(running: Running, session: str) -> list[Folded]:
    """Return what is folded of a session."""
    key = await key_of(running, session)
    async with running.app.state.agent.database.read() as db:
        return await folded_ranges(db, key)


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """Read so many events."""
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


def folded_log(whole: list[Event], gone: list[Folded]) -> list[Event]:
    """Say what a log must look like once it is folded: without deltas, and marked where they were."""
    marks = {each.completed_seq: {"from": each.first_seq, "to": each.last_seq} for each in gone}
    return [
        type(event)(event.seq, event.type, event.data | ({"replaces": marks[event.seq]} if event.seq in marks else {}))
        for event in whole
        if event.type != "message.delta"
    ]


async def read_two_files(ada: Person) -> tuple[str, list[Event]]:
    """Make a turn with two answers, each with deltas."""
    session = await ada.session(agent="ask")
    await ada.say(session, "what is in a.txt")
    call = last(await ada.until(session, "turn.waiting"), "tool.requested")
    result = {"path": "a.txt", "content": "Hello, quokka.\n" * 40, "total_lines": 40, "truncated": False}
    await ada.answer(session, call["call_id"], result=result)
    return session, await ada.until(session, *END)


class TestFolding:
    async def test_every_cursor_leads_to_the_same_end(self, running: Running, ada: Person) -> None:
        """In the middle of a folded range, at its edges, before and beyond it: each gets what is left after it."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 60")
        whole = await ada.until(session, *END)
        deltas = [event.seq for event in whole if event.type == "message.delta"]
        assert await fold_all(running) == len(deltas)
        gone = await ranges(running, session)
        expected = folded_log(whole, gone)

        assert [(each.first_seq, each.last_seq, each.deltas) for each in gone] == [(deltas[0], deltas[-1], len(deltas))]
        for after in range(len(whole)):
            rest = [event for event in expected if event.seq > after]
            async with ada.following(session, last_event_id=after) as events:
                assert await take(events, len(rest)) == rest, after

    async def test_two_messages_of_one_turn(self, running: Running, ada: Person) -> None:
        """Each says what it replaces, and no more than that."""
        session, whole = await read_two_files(ada)
        await fold_all(running)
        gone = await ranges(running, session)
        completed = [event.seq for event in whole if event.type == "message.completed"]

        assert [each.completed_seq for each in gone] == completed
        assert gone[0].last_seq < completed[0] < gone[1].first_seq
        assert await ada.until(session, *END) == folded_log(whole, gone)

    async def test_an_interrupted_message(self, running: Running, ada: Person) -> None:
        """What was said before the cancel is in the event, as it is in the history."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 5000")
        await ada.events(session, lambda event: event.type == "message.delta" and event.data["offset"] > 0)
        await ada.http.post(f"/api/v1/sessions/{session}/cancel")
        whole = await ada.until(session, *END)
        said = "".join(event.data["text"] for event in whole if event.type == "message.delta")
        await fold_all(running)
        after = await ada.until(session, *END)

        assert after == folded_log(whole, await ranges(running, session))
        completed = last(after, "message.completed")
        assert (completed["status"], completed["content"]) == ("interrupted", said)
        assert (await ada.history(session))[-1]["content"] == said

    async def test_what_others_wrote_meanwhile_stays(self, running: Running, ada: Person) -> None:
        """A message that was queued while the answer streamed lies inside the range and is not touched."""
        session = await ada.session(agent="ask")
        first = await ada.say(session, "count to 300")
        await ada.until(session, "message.delta")
        second = await ada.say(session, "count to 2")
        whole = await ada.until(session, *END, turn=second["turn_id"])
        await fold_all(running)
        gone = await ranges(running, session)
        after = await ada.until(session, *END, turn=second["turn_id"])

        assert gone[0].first_seq < second["seq"] < gone[0].last_seq
        assert after == folded_log(whole, gone)
        assert types(after).count("message.created") == 2
        assert first["turn_id"] in {event.data["turn_id"] for event in after if event.type == "turn.completed"}

    async def test_a_turn_that_runs_is_left_alone(self, running: Running, ada: Person) -> None:
        """Only turns that ended before the time are folded."""
        session = await ada.session(agent="ask")
        await ada.say(session, "what is in a.txt")
        await ada.until(session, "turn.waiting")
        assert await fold_all(running) == 0
        ended, _ = await read_two_files(ada)
        database = running.app.state.agent.database

        assert await fold(database, Batches(database), now() - timedelta(hours=1)) == 0
        assert await ranges(running, ended) == []

    async def test_a_second_run_finds_nothing(self, running: Running, ada: Person) -> None:
        """What is folded is not looked at again, and new turns are."""
        session, _ = await read_two_files(ada)
        assert await fold_all(running) > 0
        before = await ranges(running, session)
        assert await fold_all(running) == 0
        assert await ranges(running, session) == before
        accepted = await ada.say(session, "count to 1")
        await ada.until(session, *END, turn=accepted["turn_id"])

        assert await fold_all(running) == 1
        assert len(await ranges(running, session)) == 3


class TestReaders:
    async def test_a_reader_on_the_way_gets_the_whole_message(
        self, running: Running, ada: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It read the first deltas; then the log is folded under it, and it goes on at the event that replaces them."""
        monkeypatch.setattr(log_module, "PAGE", 8)
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 200")
        whole = await ada.until(session, *END)
        following = running.app.state.agent.log.follow(await key_of(running, session), 0, keep_alive=30)
        seen = list(await anext(following))
        assert seen[-1].type == "message.delta"
        await fold_all(running)
        async with asyncio.timeout(30):
            while seen[-1].type not in END:
                seen += await anext(following)
        await following.aclose()

        assert [event.seq for event in seen] == [*range(1, 9), whole[-2].seq, whole[-1].seq]
        assert '"replaces":{' in seen[-2].data

    async def test_new_events_come_after_a_gap(self, running: Running, ada: Person) -> None:
        """A reader whose cursor is in a folded range follows what is committed from then on, without a repeat."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 100")
        whole = await ada.until(session, *END)
        await fold_all(running)
        async with ada.following(session, last_event_id=whole[5].seq) as events:
            assert [event.seq for event in await take(events, 2)] == [whole[-2].seq, whole[-1].seq]
            accepted = await ada.say(session, "count to 40")
            seen: list[Event] = []
            async with asyncio.timeout(30):
                while not seen or seen[-1].type not in END:
                    seen.append(await anext(events))

        assert seen[0].seq == accepted["seq"]
        assert [event.seq for event in seen] == list(range(whole[-1].seq + 1, seen[-1].seq + 1))

    async def test_readers_while_it_is_folded_in_small_batches(
        self, running: Running, ada: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At every moment a new reader can render the whole text, from deltas alone or from what replaces them."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 400")
        whole = await ada.until(session, *END)
        text_ = last(whole, "message.completed")["content"]
        readings: list[tuple[int, str]] = []

        async def look(_: float) -> None:
            seen = await ada.until(session, *END)
            deltas = [event.data for event in seen if event.type == "message.delta"]
            completed = last(seen, "message.completed")
            if "replaces" not in completed:
                assert "".join(delta["text"] for delta in deltas) == text_
            readings.append((len(deltas), completed["content"]))

        from codelab.db import upkeep

        monkeypatch.setattr(upkeep, "FIRST_ROWS", 3)
        monkeypatch.setattr(upkeep, "MOST_ROWS", 6)
        database = running.app.state.agent.database
        await fold(database, Batches(database, pause=look), now() + timedelta(seconds=1))

        assert len(readings) > 3
        assert [left for left, _ in readings] == sorted((left for left, _ in readings), reverse=True)
        assert {content for _, content in readings} == {text_}


async def test_a_huge_session_is_folded_in_batches(running: Running, ada: Person) -> None:
    """100,000 deltas go in many transactions, while others write; nothing else of the log is touched."""
    session = await ada.session(agent="ask")
    await ada.say(session, "count to 1")
    whole = await ada.until(session, *END)
    await inflate(running.app.state.agent.database, await key_of(running, session), 100_000)
    other = await ada.session(agent="ask")
    folding = asyncio.create_task(fold_all(running))
    said = 0
    while not folding.done():
        accepted = await ada.say(other, "count to 3")
        await ada.until(other, *END, turn=accepted["turn_id"])
        said += 1
    log = await ada.until(session, *END)
    (gone,) = await ranges(running, session)

    assert (await folding) >= 100_001
    assert (gone.deltas, gone.last_seq - gone.first_seq) == (100_001, 100_000)
    assert types(log) == [kind for kind in types(whole) if kind != "message.delta"]
    assert len(await ada.history(other)) == said * 2


async def inflate(database: Database, key: int, count: int) -> None:
    """Put so many deltas before the end of the only answer of a session."""

    async def unit(tx: Any) -> None:
        move = text(
            "UPDATE session_events SET seq = seq + :by "
            "WHERE session_db_id = :key AND type IN ('message.completed', 'turn.completed')"
        )
        # In two steps, since a primary key must not collide on the way.
        for shift in (-10 * count, 11 * count):
            await tx.session.execute(move, {"by": shift, "key": key})
        first = (
            await tx.session.execute(
                text("SELECT max(seq) FROM session_events WHERE session_db_id = :key AND seq < :count"),
                {"key": key, "count": count},
            )
        ).scalar_one()
        at = (
            await tx.session.execute(
                text("SELECT max(created_at) FROM session_events WHERE session_db_id = :key"), {"key": key}
            )
        ).scalar_one()
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "
        select = "SELECT :key, :first + i, 'message.delta', :data, :at FROM n"
        columns = "INSERT INTO session_events (session_db_id, seq, type, data, created_at) "
        values = {
            "key": key,
            "first": first,
            "count": count,
            "data": '{"message_id":"m","offset":0,"text":"x"}',
            "at": at,
        }
        await tx.session.execute(text(columns + numbers + select), values)
        await tx.session.execute(
            text("UPDATE sessions SET last_seq = last_seq + :count WHERE db_id = :key"), {"key": key, "count": count}
        )

    await database.write_alone(unit)
