"""The limits of a turn: at each of them it waits, and goes on only as far as a person lets it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.gate import digest
from codelab.agent.policy import Policy
from codelab.agent.storage import STORAGE
from codelab.db import parse_url
from codelab.storage.check import check
from tests.agent.providers.upstream import STALL, chunks_of, event, text_answer
from tests.agent.test_steer import queue_of, steer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types
from tests.agent.witness import Witness
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Event, Person, Running

READ = call("read_file", {"path": "a"}, id="read")


def looping(tokens: int = 0) -> bytes:
    """Make an answer that asks for a tool which is not there, and so for another model call."""
    used = {"choices": [], "usage": {"prompt_tokens": tokens - tokens // 3, "completion_tokens": tokens // 3}}
    return calls_answer(call("nothing", {})).replace(b"data: [DONE]\n\n", chunks_of(used))


async def pending(person: Person, session: str) -> list[dict[str, Any]]:
    """List what waits for a person."""
    answer = await person.http.get(f"/api/v1/sessions/{session}/pending-approvals")
    found: list[dict[str, Any]] = answer.json()["pending_approvals"]
    return found


async def until_asked(person: Person, session: str, number: int = 1) -> dict[str, Any]:
    """Wait until a turn is at a limit for the so many-th time; return the question."""
    asked = 0

    def waits(event: Event) -> bool:
        nonlocal asked
        asked += event.type == "approval.requested" and event.data["request_type"] == "limit"
        return event.type == "turn.waiting" and asked == number

    await person.events(session, waits)
    (question,) = await pending(person, session)
    return question


async def at_limit(person: Person, content: str = "loop") -> tuple[str, dict[str, Any]]:
    """Make a session whose turn waits at its limit; return both."""
    session = await person.session(agent="ask")
    await person.say(session, content)
    return session, await until_asked(person, session)


@pytest.fixture
async def ada(model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose turns may make two model calls, and whose model asks for more unless it is told what to say."""
    model.otherwise = lambda _body: (looping(),)
    return await (await start(**with_model, max_steps=2, message_while_asking="wait")).person()


class TestQuestion:
    async def test_a_message_ends_it(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """By default what a person says instead of an answer stops the turn, and is the next one."""
        model.otherwise = lambda _body: (looping(),)
        ada = await (await start(**with_model, max_steps=2)).person()
        session, question = await at_limit(ada)
        model.play(text_answer("Gladly."))
        behind = await ada.say(session, "something else")
        events = await ada.until(session, "turn.completed", turn=behind["turn_id"])
        resolved = last(events, "approval.resolved")

        assert (resolved["approval_id"], resolved["status"]) == (question["approval_id"], "rejected")
        assert last(events, "turn.cancelled")["turn_id"] != behind["turn_id"]
        assert (await ada.history(session))[-1]["content"] == "Gladly."

    async def test_a_person_lets_it_go_on_twice(self, model: Upstream, ada: Person) -> None:
        """The second question comes at twice the limit, the third at three times; each says what it is about."""
        session, first = await at_limit(ada)
        calls = [len(model.bodies)]
        state = (await ada.http.get(f"/api/v1/sessions/{session}")).json()["active_turn"]
        answer = await ada.decide(session, first["approval_id"], "approve")
        second = await until_asked(ada, session, 2)
        calls.append(len(model.bodies))
        async with socket_of(ada, session) as socket:
            reply = await socket.ask("approval.decide", approval_id=second["approval_id"], decision="approve")
        third = await until_asked(ada, session, 3)
        calls.append(len(model.bodies))
        model.play(text_answer("Done."))
        await ada.decide(session, third["approval_id"], "approve")
        events = await ada.until(session, *END)
        waiting = [e.data for e in events if e.type == "turn.waiting"]
        told = [e.data for e in events if e.type == "approval.requested"]

        assert calls == [2, 4, 6]
        assert [question["arguments"] for question in (first, second, third)] == [
            {"limit": "steps", "used": used, "allowance": 2} for used in calls
        ]
        turn_id = state["turn_id"]
        assert state["state"] == "waiting"
        assert [question["call_id"] for question in told] == [f"limit-{turn_id}-{n}" for n in (1, 2, 3)]
        assert waiting == [
            {"turn_id": turn_id, "call_ids": [], "approval_ids": [question["approval_id"]]} for question in told
        ]
        assert (first["request_type"], first["tool_name"], first["subject"]) == ("limit", *["continue_turn"] * 2)
        assert first["reason"] == "This turn has made 2 model calls, and the limit is 2. Go on?"
        assert second["reason"] == "This turn has made 4 model calls, and the limit is 4. Go on?"
        bound = digest(session, "ask", "continue_turn", first["arguments"], Policy().version)
        assert first["details"]["digest"] == told[0]["digest"] == bound
        decided = answer.json()
        assert (decided["status"], decided["decision"], decided["decided_by"]) == ("approved", "approve", ada.id)
        assert decided["decided_at"] > decided["created_at"]
        assert reply["result"]["status"] == "approved"
        assert events[-1].type == "turn.completed"
        assert await pending(ada, session) == []

    async def test_a_person_ends_it(self, model: Upstream, ada: Person) -> None:
        """The reason is the person's own, what was said stays, and the queue behind it goes on."""
        session, question = await at_limit(ada)
        behind = await ada.say(session, "something else")
        busy = await ada.http.post(
            f"/api/v1/sessions/{session}/messages", json={"content": "now", "delivery": "reject"}
        )
        before = await ada.history(session)
        model.play(text_answer("Gladly."))
        answer = await ada.decide(session, question["approval_id"], "reject", feedback="that leads nowhere")
        events = await ada.until(session, "turn.completed", turn=behind["turn_id"])
        resolved, cancelled = last(events, "approval.resolved"), last(events, "turn.cancelled")
        history = await ada.history(session)

        assert busy.json()["active_turn"]["state"] == "waiting"
        assert (answer.json()["status"], answer.json()["feedback"]) == ("rejected", "that leads nowhere")
        assert (resolved["status"], resolved["decision"], resolved["decided_by"]) == ("rejected", "reject", ada.id)
        assert cancelled["reason"] == "that leads nowhere"
        assert types(events).count("turn.cancelled") == 1
        assert [m["role"] for m in before] == ["user", *["assistant", "tool"] * 2, "user"]
        assert history[:-1] == before
        assert history[-1]["content"] == "Gladly."

    async def test_a_no_without_words_has_a_reason_too(self, ada: Person) -> None:
        """The turn says who stopped it."""
        session, question = await at_limit(ada)
        await ada.decide(session, question["approval_id"], "reject")

        assert last(await ada.until(session, *END), "turn.cancelled")["reason"] == "Stopped by the user at a limit"

    async def test_there_is_nothing_to_edit(self, ada: Person) -> None:
        """An edit is refused by the name of the member, with arguments and without, and the question stays."""
        session, question = await at_limit(ada)
        more = {"limit": "steps", "used": 2, "allowance": 10_000}
        for body in ({}, {"modified_arguments": more}):
            answer = await ada.decide(session, question["approval_id"], "edit", **body)
            assert (answer.status_code, answer.json()["field"]) == (400, "decision")
        answer = await ada.decide(session, question["approval_id"], "approve", modified_arguments=more)
        assert (answer.status_code, answer.json()["field"]) == (400, "modified_arguments")

        assert await pending(ada, session) == [question]

    async def test_it_is_decided_once(self, ada: Person) -> None:
        """Of many who decide at once one does; the others are told what was decided."""
        session, question = await at_limit(ada)
        answers = await asyncio.gather(
            *(ada.decide(session, question["approval_id"], word) for word in ("approve", "reject") * 5)
        )
        (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
        others = [answer.json() for answer in answers if answer.status_code == 409]
        if winner["decision"] == "approve":
            second = await until_asked(ada, session, 2)
            await ada.decide(session, second["approval_id"], "reject")
        events = await ada.until(session, *END)

        assert [problem["approval"]["decision"] for problem in others] == [winner["decision"]] * 9
        assert types(events).count("approval.resolved") == 1 + (winner["decision"] == "approve")

    async def test_a_cancel_withdraws_it(self, ada: Person) -> None:
        """The question ends as cancelled with the turn; to remove a message behind it does not touch it."""
        session, question = await at_limit(ada)
        behind = await ada.say(session, "something else")
        await ada.http.delete(f"/api/v1/sessions/{session}/queue/{behind['turn_id']}")
        still = await pending(ada, session)
        answer = await ada.http.post(f"/api/v1/sessions/{session}/cancel")
        events = await ada.until(session, *END, turn=answer.json()["turn_id"])
        late = await ada.decide(session, question["approval_id"], "approve")

        assert still == [question]
        assert answer.json()["state"] == "cancelled"
        assert types(events)[-2:] == ["approval.resolved", "turn.cancelled"]
        resolved = last(events, "approval.resolved")
        assert (resolved["status"], resolved["decision"]) == ("cancelled", None)
        assert (late.status_code, late.json()["approval"]["status"]) == (409, "cancelled")
        assert await pending(ada, session) == []

    async def test_a_turn_that_is_done_asks_nobody(self, model: Upstream, ada: Person) -> None:
        """The last call that it may make is its answer: it is completed."""
        model.play(looping())
        model.play(text_answer("Done."))
        session = await ada.session(agent="ask")
        await ada.say(session, "hello")
        events = await ada.until(session, *END)

        assert events[-1].type == "turn.completed"
        assert "approval.requested" not in types(events)


class TestSteering:
    async def test_it_joins_when_the_turn_goes_on(self, model: Upstream, ada: Person) -> None:
        """What was said to a turn at its limit is in its next model call."""
        session, question = await at_limit(ada)
        await steer(ada, session, "only the names")
        assert [item["content"] for item in await queue_of(ada, session)] == ["only the names"]
        model.play(text_answer("Names."))
        await ada.decide(session, question["approval_id"], "approve")
        events = await ada.until(session, *END)

        assert events[-1].type == "turn.completed"
        assert model.bodies[2]["messages"][-1] == {"role": "user", "content": "only the names"}
        assert await queue_of(ada, session) == []

    async def test_it_is_answered_by_itself_when_it_ends(self, model: Upstream, ada: Person) -> None:
        """It came in the last model call before the limit: a turn that a person ends there has not taken it."""
        gate = asyncio.Event()
        model.play(looping())
        model.play(text_of("Hm"), gate, looping())
        session = await ada.session(agent="ask")
        await ada.say(session, "loop")
        await ada.until(session, "message.delta")
        await steer(ada, session, "only the names")
        gate.set()
        question = await until_asked(ada, session)
        (item,) = await queue_of(ada, session)
        model.play(text_answer("Names."))
        await ada.decide(session, question["approval_id"], "reject")
        events = await ada.until(session, "turn.completed")

        assert events[-1].data["turn_id"] == item["turn_id"]
        assert "message.steered" not in types(events)


class TestTokens:
    async def test_they_are_asked_about(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """What was read and written counts; a step that takes far too many is asked about once."""
        ada = await (await start(**with_model, max_turn_tokens=100)).person()
        for tokens in (60, 60, 60, 60, 500, 10, 60):
            model.play(looping(tokens))
        session, question = await at_limit(ada)
        asked = [question]
        for number in (2, 3, 4):
            await ada.decide(session, asked[-1]["approval_id"], "approve")
            asked.append(await until_asked(ada, session, number))

        assert [question["arguments"]["used"] for question in asked] == [120, 240, 740, 810]
        assert {question["arguments"]["limit"] for question in asked} == {"tokens"}
        assert {question["arguments"]["allowance"] for question in asked} == {100}
        assert asked[2]["reason"] == "This turn has used 740 tokens, and the limit is 300. Go on?"

    async def test_two_limits_are_two_questions(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """One yes is for one limit: the other is asked about before the next model call."""
        ada = await (await start(**with_model, max_steps=1, max_turn_tokens=100)).person()
        model.play(looping(100))
        session, first = await at_limit(ada)
        await ada.decide(session, first["approval_id"], "approve")
        second = await until_asked(ada, session, 2)
        model.play(text_answer("Done."))
        await ada.decide(session, second["approval_id"], "approve")
        events = await ada.until(session, *END)

        assert [question["arguments"]["limit"] for question in (first, second)] == ["steps", "tokens"]
        assert events[-1].type == "turn.completed"
        assert len(model.bodies) == 2


class TestTime:
    @pytest.mark.parametrize("said", [["Well"], []], ids=["in a sentence", "no word"])
    async def test_a_model_that_never_ends_is_stopped(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], said: list[str]
    ) -> None:
        """What it said stays, marked; the question is put, and a yes makes the call again."""
        ada = await (await start(**with_model | {"llm_idle_timeout": 3600.0}, max_turn_seconds=1)).person()
        model.play(*map(text_of, said), STALL)
        session, question = await at_limit(ada)
        async with asyncio.timeout(60):
            await model.closed_by_client.wait()
        model.play(text_answer("Better."))
        await ada.decide(session, question["approval_id"], "approve")
        await ada.until(session, "turn.completed")
        history = await ada.history(session)

        assert question["arguments"]["limit"] == "seconds"
        assert question["arguments"]["used"] >= question["arguments"]["allowance"] == 1
        assert [m["content"] for m in history if m["status"] == "interrupted"] == said
        assert history[-1]["content"] == "Better."
        assert model.bodies[0] == model.bodies[1]

    async def test_what_the_stopped_call_used_counts(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """Its tokens may reach another limit, which is asked about before the call is made again."""
        limits = {"max_turn_seconds": 1, "max_turn_tokens": 100}
        ada = await (await start(**with_model, **limits)).person()
        used = {"prompt_tokens": 120, "completion_tokens": 3}
        model.play(text_of("Well"), event({"choices": [], "usage": used}), STALL)
        session, tokens = await at_limit(ada)
        await ada.decide(session, tokens["approval_id"], "approve")
        seconds = await until_asked(ada, session, 2)
        await ada.http.post(f"/api/v1/sessions/{session}/cancel")

        assert tokens["arguments"] == {"limit": "tokens", "used": 123, "allowance": 100}
        assert seconds["arguments"]["limit"] == "seconds"
        assert len(model.bodies) == 1

    async def test_waiting_for_a_client_is_no_work(
        self, model: Upstream, talker: Person, migrated: DatabaseUrls
    ) -> None:
        """A turn has worked no longer than it was not waiting."""
        clock = asyncio.get_running_loop().time
        model.play(calls_answer(READ))
        model.play(text_answer("Read."))
        session = await talker.session(agent="ask")
        began = clock()
        await talker.say(session, "read a")
        await talker.until(session, "turn.waiting")
        waits_from = clock()
        await asyncio.sleep(0.5)  # time that must not count; nothing is synchronised by it
        waits_to = clock()
        await talker.answer(session, "read", result="aaa")
        await talker.until(session, "turn.completed")
        ended = clock()
        async with Witness.at(migrated) as witness:
            ((worked_ms,),) = await witness.rows("SELECT worked_ms FROM turns")

        rounding = 2
        assert 0 < worked_ms <= (ended - began - (waits_to - waits_from)) * 1000 + rounding


class TestRestart:
    async def test_the_question_waits_as_long_as_it_takes(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """It is there word for word after a restart, and what was allowed holds after the next one."""
        model.otherwise = lambda _body: (looping(),)
        async with serve(**with_model, max_steps=2) as running:
            ada = await running.person()
            session, before = await at_limit(ada)
        checked = await check(parse_url(migrated.agent, "AGENT_RUNTIME__DB_URL"), STORAGE)
        async with serve(**with_model, max_steps=2) as running:
            ada = await running.person()
            (after,) = await pending(ada, session)
            made = len(model.bodies)
            model.play(text_of("Well"), STALL)
            await ada.decide(session, after["approval_id"], "approve")
            await ada.until(session, "message.delta")
        async with serve(**with_model, max_steps=2) as running:
            ada = await running.person()
            second = await until_asked(ada, session, 2)
            await ada.decide(session, second["approval_id"], "reject", feedback="enough")
            events = await ada.until(session, *END)

        assert [finding for finding in checked.findings if finding.severity == "fault"] == []
        assert before == after
        assert made == 2
        assert second["arguments"] == {"limit": "steps", "used": 4, "allowance": 2}
        assert last(events, "turn.cancelled")["reason"] == "enough"
        assert [event.seq for event in events] == list(range(1, len(events) + 1))

    @pytest.mark.parametrize(
        ("statement", "name"),
        [
            ("UPDATE turns SET state = 'completed'", "approvals"),
            ("UPDATE pending_approvals SET status = 'rejected'", "turns"),
        ],
    )
    async def test_the_check_finds_what_is_wrong_with_it(
        self,
        serve: Serve,
        model: Upstream,
        with_model: dict[str, Any],
        migrated: DatabaseUrls,
        statement: str,
        name: str,
    ) -> None:
        """A question of a turn that does not wait, and a turn that waits for no question."""
        model.play(looping())
        async with serve(**with_model, max_steps=1) as running:
            await at_limit(await running.person())
        async with Witness.at(migrated) as witness:
            await witness.change(statement)
        checked = await check(parse_url(migrated.agent, "AGENT_RUNTIME__DB_URL"), STORAGE)

        assert [finding.check for finding in checked.findings if finding.severity == "fault"] == [name]
