"""Stops, restarts and bad days of the database: no message is lost, none is doubled, and the work goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from httpx2 import SSEError

from tests.agent.providers.upstream import STALL, text_answer
from tests.agent.transcripts import END, asked, call, calls_answer, last, text_of
from tests.agent.witness import Witness
from tests.db.proxy import Proxy
from tests.support.databases import DatabaseUrls
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running


def without_gaps(events: list[Event]) -> bool:
    """Tell whether a whole log counts from 1."""
    return [event.seq for event in events] == list(range(1, len(events) + 1))


class TestRestart:
    async def test_a_cut_answer_is_kept_and_made_again(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """What was said is marked interrupted and never shown to the model; readers go on where they were."""
        model.play(text_of("Once upon"), STALL)
        model.play(text_answer("Once more."))
        model.play(text_answer("And then."))
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "tell me")
            seen = await ada.until(session, "message.delta")
        async with serve(**with_model) as running:
            ada = await running.person()
            events = await ada.until(session, "turn.completed", turn=accepted["turn_id"])
            again = await ada.say(session, "go on")
            await ada.until(session, "turn.completed", turn=again["turn_id"])
            history = await ada.history(session)

        assert events[: len(seen)] == seen
        assert without_gaps(events)
        assert [event.type for event in events].count("turn.started") == 1
        assert [(m["role"], m["status"], m["content"]) for m in history] == [
            ("user", "completed", "tell me"),
            ("assistant", "interrupted", "Once upon"),
            ("assistant", "completed", "Once more."),
            ("user", "completed", "go on"),
            ("assistant", "completed", "And then."),
        ]
        assert model.bodies[0] == model.bodies[1]
        assert "Once upon" not in str(model.bodies[2])

    async def test_a_waiting_turn_still_takes_its_results(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """Of two calls one is answered before the stop and one after it; the model hears both."""
        model.play(calls_answer(call("read_file", {"path": "a"}, id="a"), call("read_file", {"path": "b"}, id="b")))
        model.play(text_answer("Both read."))
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            await ada.say(session, "read both")
            await ada.until(session, "turn.waiting")
            first = (await ada.answer(session, "a", result="A")).json()
        async with serve(**with_model) as running:
            ada = await running.person()
            repeated = (await ada.answer(session, "a", result="other")).json()
            await ada.answer(session, "b", result="B")
            events = await ada.until(session, "turn.completed")
        results = [m["content"] for m in model.bodies[1]["messages"] if m["role"] == "tool"]

        assert repeated == first
        assert results == ["A", "B"]
        assert without_gaps(events)

    async def test_an_approval_waits_as_long_as_it_takes(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """The question is there after the start, word for word, and its decision is carried out."""
        model.play(calls_answer(call("execute_command", {"command": "ls"}, id="run")))
        model.play(text_answer("Nothing there."))
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            await ada.say(session, "run ls")
            await ada.until(session, "turn.waiting")
            url = f"/api/v1/sessions/{session}/pending-approvals"
            before = (await ada.http.get(url)).json()
        async with serve(**with_model) as running:
            ada = await running.person()
            after = (await ada.http.get(url)).json()
            await ada.decide(session, after["pending_approvals"][0]["approval_id"], "approve")
            requested = (await ada.until(session, "tool.requested"))[-1].data
            await ada.answer(session, requested["call_id"], result={"exit_code": 0})
            events = await ada.until(session, "turn.completed")

        assert before == after
        assert before["count"] == 1
        assert requested["arguments"] == {"command": "ls"}
        assert without_gaps(events)

    async def test_the_queue_goes_on_in_its_order(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """Messages that waited in line behind a silent model are answered after the start, each once."""
        model.play(STALL)
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            accepted = [await ada.say(session, f"message {n}") for n in range(5)]
            async with asyncio.timeout(30):
                while not model.bodies:
                    await asyncio.sleep(0.01)
        model.otherwise = lambda body: (text_answer(f"Re: {asked(body)}"),)
        async with serve(**with_model) as running:
            ada = await running.person()
            events = await ada.until(session, "turn.completed", turn=accepted[-1]["turn_id"])
            history = await ada.history(session)
        ended = [event.data["turn_id"] for event in events if event.type == "turn.completed"]

        assert ended == [each["turn_id"] for each in accepted]
        assert [m["content"] for m in history] == [t for n in range(5) for t in (f"message {n}", f"Re: message {n}")]
        assert without_gaps(events)

    async def test_a_message_that_was_only_acknowledged_is_answered(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """The process ended between the acknowledgement and the start of the turn: the next one starts it."""
        model.play(STALL)
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "hello")
            await ada.until(session, "turn.started")
        async with Witness.at(migrated) as witness:
            await witness.change("UPDATE turns SET state = 'queued', started_at = NULL, lease_owner = NULL")
        model.otherwise = lambda _body: (text_answer("Hello."),)
        async with serve(**with_model) as running:
            ada = await running.person()
            events = await ada.until(session, *END, turn=accepted["turn_id"])

        assert events[-1].type == "turn.completed"
        assert without_gaps(events)

    async def test_what_ended_is_not_begun_again(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """A start finds completed, failed and cancelled turns, and leaves them and the model alone."""
        model.play(text_answer("Done."))
        model.play(b"", status=500)
        model.play(text_of("Well"), STALL)
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            for _ in range(2):
                accepted = await ada.say(session, "hello")
                await ada.until(session, *END, turn=accepted["turn_id"])
            accepted = await ada.say(session, "hello")
            await ada.until(session, "message.delta", after=accepted["seq"])
            await ada.http.post(f"/api/v1/sessions/{session}/cancel")
            before = (await ada.http.get(f"/api/v1/sessions/{session}")).json()
        async with serve(**with_model) as running:
            ada = await running.person()
            async with asyncio.timeout(30):
                while running.app.state.agent.runner.running:
                    await asyncio.sleep(0.01)
            after = (await ada.http.get(f"/api/v1/sessions/{session}")).json()

        assert before == after
        assert len(model.bodies) == 3


async def _converse(ada: Person, number: int, gone: asyncio.Event) -> tuple[str, list[str], list[str]]:
    """Send messages while the database comes and goes; return the session, what was acknowledged and what was sent."""
    session = f"bad-day-{number}"
    acknowledged: list[str] = []
    sent: list[str] = []
    n = 0
    while not gone.is_set() or n < 3:
        n += 1
        sent.append(f"count to {20 + n}")
        answer = await ada.http.post(f"/api/v1/sessions/{session}/messages", json={"content": sent[-1]})
        assert answer.status_code in {202, 503}, answer.text
        if answer.status_code == 202:
            acknowledged.append(answer.json()["turn_id"])
            await _resume(ada, session, answer.json()["seq"])
    return session, acknowledged, sent


async def _resume(ada: Person, session: str, after: int) -> None:
    """Read until an answer begins; as every client does, try again when the stream cannot be opened now."""
    while True:
        try:
            await ada.until(session, "message.delta", after=after)
        except SSEError:
            await asyncio.sleep(0.05)
        else:
            return


class TestBadDays:
    @pytest.mark.parametrize("dialect", ["postgresql"])
    async def test_all_connections_are_ended_while_turns_stream(
        self, running: Running, ada: Person, migrated: DatabaseUrls
    ) -> None:
        """Three times in a row: turns recover by themselves, each message that was acknowledged is answered once."""
        sessions = [await ada.session(session_id=f"bad-day-{number}", agent="ask") for number in range(4)]
        gone = asyncio.Event()
        talks = [asyncio.create_task(_patient(_converse, ada, number, gone)) for number in range(4)]
        async with Witness.at(migrated) as witness:
            for _ in range(3):
                marks = {s: len(await witness.rows("SELECT 1 FROM session_events")) for s in sessions}
                assert await witness.terminate_others() > 0
                async with asyncio.timeout(60):
                    while len(await witness.rows("SELECT 1 FROM session_events")) <= max(marks.values()) + 20:
                        await asyncio.sleep(0.02)
        gone.set()
        for session, acknowledged, sent in await asyncio.gather(*talks):
            events = await ada.events(session, _all_ended(set(acknowledged)), timeout=60)
            async with asyncio.timeout(60):
                while (await ada.http.get(f"/api/v1/sessions/{session}")).json()["active_turn"]:
                    await asyncio.sleep(0.05)
            history = await ada.history(session)
            said = [m["content"] for m in history if m["role"] == "user"]
            turns = [m["turn_id"] for m in history if m["role"] == "user"]
            whole = [m["turn_id"] for m in history if m["role"] == "assistant" and m["status"] == "completed"]

            assert without_gaps(events)
            assert said == [content for content in sent if content in said]
            assert set(acknowledged) <= set(turns)
            assert whole == turns
            assert len(acknowledged) >= 3
            for message in history:
                if message["role"] == "assistant" and message["status"] == "completed":
                    asked_for = said[turns.index(message["turn_id"])].split()[-1]
                    assert message["content"].split()[-1] == asked_for

    @pytest.mark.parametrize("dialect", ["postgresql"])
    async def test_a_stream_outlives_its_connection(self, ada: Person, migrated: DatabaseUrls) -> None:
        """The connection is ended while a reader's query waits: the same stream goes on, with everything."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 3")
        whole = await ada.until(session, *END)
        async with Witness.at(migrated) as witness:
            async with witness.block_readers():
                reader = asyncio.create_task(ada.until(session, *END))
                await witness.wait_for_blocked()
                await witness.terminate_others()
            events = await reader

        assert events == whole

    @pytest.mark.parametrize("dialect", ["sqlite"])
    async def test_another_process_holds_the_write_lock(self, ada: Person, migrated: DatabaseUrls) -> None:
        """A backup or a shell locks the file for two seconds during a turn: the turn waits and completes."""
        session = await ada.session(agent="ask")
        accepted = await ada.say(session, "count to 120")
        await ada.until(session, "message.delta")
        async with Witness.at(migrated) as witness, witness.lock(2.0):
            history = await ada.history(session)  # readers do not wait
            queued = await ada.say(session, "count to 2")
        events = await ada.until(session, *END, turn=queued["turn_id"])
        ended = [(event.type, event.data["turn_id"]) for event in events if event.type in END]

        assert [m["content"] for m in history if m["role"] == "user"] == ["count to 120"]
        assert ended == [("turn.completed", accepted["turn_id"]), ("turn.completed", queued["turn_id"])]
        assert without_gaps(events)
        assert [event.data["status"] for event in events if event.type == "message.completed"] == ["completed"] * 2
        assert last(events, "turn.completed")["turn_id"] == queued["turn_id"]


def _cut_after_commit(kind: bytes) -> Callable[[bytes], str | None]:
    """Cut the connection once, after the server has committed an event of this type and before it can say so."""
    armed, done = False, False

    def see(data: bytes) -> str | None:
        nonlocal armed, done
        armed = armed or (not done and kind in data)
        if armed and b"COMMIT" in data:
            armed, done = False, True
            return "after"
        return None

    return see


@pytest.mark.parametrize("dialect", ["postgresql"])
class TestUnknownCommits:
    """The connection is lost after a COMMIT and before its answer: the database has what the server was not told."""

    async def test_a_reader_is_told_nevertheless(self, migrated: DatabaseUrls, tmp_path: Path) -> None:
        """The end of a turn was committed so: the open stream shows it, and the turn ended once."""
        async with Proxy(migrated.agent) as proxy:
            through = DatabaseUrls(f"{proxy.url}?sslmode=disable", migrated.auth)
            async with serving(make_settings(through, tmp_path)) as running:
                ada = await running.person()
                session = await ada.session(agent="ask")
                proxy.on_client = _cut_after_commit(b"turn.completed")
                await ada.say(session, "count to 3")
                events = await ada.until(session, *END)
                history = await ada.history(session)

        assert [event.type for event in events if event.type in END] == ["turn.completed"]
        assert [message["status"] for message in history] == ["completed", "completed"]

    async def test_a_turn_goes_on_nevertheless(self, migrated: DatabaseUrls, tmp_path: Path) -> None:
        """The last result was committed so, and its client does not ask again: the turn goes on by itself."""
        async with Proxy(migrated.agent) as proxy:
            through = DatabaseUrls(f"{proxy.url}?sslmode=disable", migrated.auth)
            async with serving(make_settings(through, tmp_path, lease_seconds=2.0)) as running:
                ada = await running.person()
                session = await ada.session(agent="ask")
                other = await ada.session(agent="ask")
                await ada.say(session, "read a.txt")
                call = next(e.data for e in await ada.until(session, "turn.waiting") if e.type == "tool.requested")
                proxy.on_client = _cut_after_commit(b"tool.completed")
                await ada.say(other, "count to 1000")  # so that this process has leases to renew
                answer = await ada.answer(session, call["call_id"], result="A")
                events = await ada.until(session, *END)

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert events[-1].type == "turn.completed"


async def _patient(function: Any, *arguments: Any) -> Any:
    async with asyncio.timeout(90):
        return await function(*arguments)


def _all_ended(turns: set[str]) -> Any:
    def check(event: Event) -> bool:
        if event.type in END:
            turns.discard(event.data["turn_id"])
        return not turns

    return check
