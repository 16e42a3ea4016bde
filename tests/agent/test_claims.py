"""Claims: one client runs a call, and a call outlives the client that ran it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.agent.storage import STORAGE
from codelab.db import parse_url
from codelab.storage.check import check
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer, last, types
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx2

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Event, Person, Running

READ = call("read_file", {"path": "a"}, id="read")
WRITE = call("write_file", {"path": "a", "content": "x"}, id="write")
#: Seconds that a client may be away: over at once, and long enough to come back in.
SOON, LATER = 0.2, 5.0


async def claim(person: Person, session: str, call_id: str, client: str, **headers: str) -> httpx2.Response:
    """Claim a call."""
    url = f"/api/v1/sessions/{session}/tool-calls/{call_id}/claim"
    return await person.http.post(url, json={"client_id": client}, headers=headers)


@asynccontextmanager
async def attached(person: Person, session: str, client: str) -> AsyncIterator[None]:
    """Follow a session as a client of that name."""
    params = {"after": "0", "client": client}
    async with person.http.sse(f"/api/v1/sessions/{session}/events", params=params) as source:
        async for _ in source:
            yield
            return


async def reading(person: Person) -> str:
    """Make a session that waits for a client to read a file; return it."""
    session = await person.session(agent="coder")
    await person.say(session, "go")
    await person.until(session, "turn.waiting")
    return session


async def writing(person: Person) -> str:
    """Make a session that waits for a client to write a file, which a person has approved."""
    session = await reading(person)
    (asked,) = await pending(person, session)
    assert (await person.decide(session, asked["approval_id"], "approve")).is_success
    return session


async def pending(person: Person, session: str) -> list[dict[str, Any]]:
    """List what waits for a person."""
    answer = await person.http.get(f"/api/v1/sessions/{session}/pending-approvals")
    found: list[dict[str, Any]] = answer.json()["pending_approvals"]
    return found


async def asked_about(person: Person, session: str) -> dict[str, Any]:
    """Wait until a person is asked about a call of unknown outcome; return the question."""

    def is_question(event: Event) -> bool:
        return event.type == "approval.requested" and event.data["request_type"] == "unknown_outcome"

    return (await person.events(session, is_question))[-1].data


async def offered_again(person: Person, session: str) -> dict[str, Any]:
    """Wait until a call is offered a second time; return the event's data."""
    events = await person.events(session, lambda e: e.type == "tool.requested" and e.data["attempt"] == 2)
    return events[-1].data


@pytest.fixture
async def hasty(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose server takes calls from clients that are gone for a moment."""
    return await (await start(**with_model, claim_grace_seconds=SOON)).person()


class TestClaiming:
    async def test_of_many_clients_one_gets_the_call(self, model: Upstream, talker: Person) -> None:
        """One claim is granted and told to all; the others learn who has it."""
        model.play(calls_answer(READ))
        session = await reading(talker)
        offered = last(await talker.until(session, "turn.waiting"), "tool.requested")
        answers = await asyncio.gather(*(claim(talker, session, "read", f"c{n}") for n in range(8)))
        (granted,) = [answer.json() for answer in answers if answer.status_code == 200]
        refused = [answer.json() for answer in answers if answer.status_code == 409]
        told = last(await talker.until(session, "tool.claimed"), "tool.claimed")

        assert (offered["claim"], offered["attempt"]) == (None, 1)
        assert granted["arguments"] == {"path": "a"}
        assert {problem["code"] for problem in refused} == {"call_claimed"}
        assert {problem["claim"]["client_id"] for problem in refused} == {granted["client_id"]} == {told["client_id"]}
        assert len(refused) == 7

    async def test_the_holder_claims_as_often_as_it_likes(self, model: Upstream, talker: Person) -> None:
        """The same answer, told once."""
        model.play(calls_answer(READ))
        session = await reading(talker)
        answers = [await claim(talker, session, "read", "me") for _ in range(3)]
        events = await talker.until(session, "tool.claimed")
        newest = (await talker.http.get(f"/api/v1/sessions/{session}")).json()["last_seq"]

        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        assert newest == events[-1].seq

    async def test_a_result_is_the_holders(self, model: Upstream, talker: Person) -> None:
        """Another client's is refused, also one without a name; the holder's is taken once, and repeated to anybody."""
        model.play(calls_answer(READ))
        model.play(text_answer("Done."))
        session = await reading(talker)
        await claim(talker, session, "read", "me")
        for other in ({}, {"client_id": "other"}):
            refused = await talker.answer(session, "read", result="theirs", **other)
            assert (refused.status_code, refused.json()["code"]) == (409, "call_claimed")
        taken = await talker.answer(session, "read", result="mine", client_id="me")
        again = await talker.answer(session, "read", result="theirs", client_id="other")
        events = await talker.until(session, *END)
        late = await claim(talker, session, "read", "other")

        assert taken.json() == again.json()
        assert last(events, "tool.completed")["result"] == "mine"
        assert (late.status_code, late.json()["code"]) == (409, "call_ended")

    async def test_a_free_call_may_be_answered_by_anybody(self, model: Upstream, talker: Person) -> None:
        """A client that knows nothing of claims need not."""
        model.play(calls_answer(READ))
        model.play(text_answer("Done."))
        session = await reading(talker)

        assert (await talker.answer(session, "read", result="x")).json()["status"] == "completed"

    async def test_what_cannot_be_claimed_is_refused(self, model: Upstream, talker: Person) -> None:
        """An unknown call, one that a person has not approved, a name that is none."""
        model.play(calls_answer(READ, WRITE))
        session = await reading(talker)
        unknown = await claim(talker, session, "nothing", "me")
        unapproved = await claim(talker, session, "write", "me")
        nameless = await claim(talker, session, "read", "a b")
        stream = await talker.http.get(f"/api/v1/sessions/{session}/events", params={"client": "x" * 65})

        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_call")
        assert (unapproved.status_code, unapproved.json()["code"]) == (409, "approval_pending")
        assert nameless.status_code == 400
        assert (stream.status_code, stream.json()["field"]) == (400, "client")

    async def test_over_a_socket_its_client_is_the_claimant(self, model: Upstream, talker: Person) -> None:
        """Without a name of its own each socket is a client; what one claims another cannot answer."""
        model.play(calls_answer(READ))
        model.play(text_answer("Done."))
        session = await reading(talker)
        async with socket_of(talker, session) as one, socket_of(talker, session, client="two") as two:
            mine = await one.ask("tool.claim", call_id="read")
            theirs = await two.ask("tool.claim", call_id="read")
            refused = await two.ask("tool_result", call_id="read", result="theirs")
            taken = await one.ask("tool_result", call_id="read", result="mine")

        assert mine["result"]["arguments"] == {"path": "a"}
        assert {theirs["error"]["code"], refused["error"]["code"]} == {"call_claimed"}
        assert taken["result"]["status"] == "completed"

    async def test_a_kept_answer_does_not_outlive_its_claim(self, model: Upstream, hasty: Person) -> None:
        """The same key again says whose the call is now."""
        model.play(calls_answer(READ))
        session = await reading(hasty)
        key = {"Idempotency-Key": "k"}
        assert (await claim(hasty, session, "read", "me", **key)).status_code == 200
        await offered_again(hasty, session)
        async with attached(hasty, session, "other"):
            assert (await claim(hasty, session, "read", "other")).status_code == 200

            assert (await claim(hasty, session, "read", "me", **key)).status_code == 409

    async def test_ids_of_calls_fit_into_a_path(self, model: Upstream, talker: Person) -> None:
        """An id that no path can hold is replaced."""
        ids = ["a/b", "..", "functions.read:0"]
        model.play(calls_answer(*(READ | {"id": name} for name in ids)))
        session = await reading(talker)
        waiting = last(await talker.until(session, "turn.waiting"), "turn.waiting")

        assert [name in ids for name in waiting["call_ids"]] == [False, False, True]
        for name in waiting["call_ids"]:
            assert (await claim(talker, session, name, "me")).status_code == 200


class TestLeaving:
    async def test_a_read_is_offered_again(self, model: Upstream, hasty: Person) -> None:
        """Another client then runs it, and the first one's late result changes nothing."""
        model.play(calls_answer(READ))
        model.play(text_answer("Done."))
        session = await reading(hasty)
        async with attached(hasty, session, "gone"):
            await claim(hasty, session, "read", "gone")
        offered = await offered_again(hasty, session)
        assert (offered["claim"], offered["arguments"], offered["approval_id"]) == (None, {"path": "a"}, None)
        async with attached(hasty, session, "other"):
            assert (await claim(hasty, session, "read", "other")).json()["attempt"] == 2
            assert (await hasty.answer(session, "read", result="late", client_id="gone")).status_code == 409
            await hasty.answer(session, "read", result="fresh", client_id="other")

        assert last(await hasty.until(session, *END), "tool.completed")["result"] == "fresh"

    async def test_a_client_that_stays_or_comes_back_keeps_its_call(
        self, model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """Its call stays its own while another one, whose client left, is offered again."""
        ada = await (await start(**with_model, claim_grace_seconds=LATER)).person()
        model.play(calls_answer(READ, READ | {"id": "second"}))
        session = await reading(ada)
        async with attached(ada, session, "me"):
            await claim(ada, session, "read", "me")
        async with attached(ada, session, "me"):
            await claim(ada, session, "second", "gone")
            assert (await offered_again(ada, session))["call_id"] == "second"

            assert (await claim(ada, session, "read", "other")).json()["code"] == "call_claimed"

    async def test_a_write_asks_the_person_and_runs_again_after_a_yes(self, model: Upstream, hasty: Person) -> None:
        """Nobody runs it before; then any client may, and the model reads one result."""
        model.play(calls_answer(WRITE))
        model.play(text_answer("Done."))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        question = await asked_about(hasty, session)
        (listed,) = await pending(hasty, session)
        early = await claim(hasty, session, "write", "other")
        anonymous = await hasty.answer(session, "write", result="x")
        await hasty.decide(session, question["approval_id"], "approve")
        offered = await offered_again(hasty, session)
        again = await claim(hasty, session, "write", "other")
        await hasty.answer(session, "write", result="done", client_id="other")
        events = await hasty.until(session, *END)

        assert question["reason"] == "The client that ran this went away before its result. Run it again?"
        assert (listed["request_type"], listed["arguments"]) == ("unknown_outcome", {"path": "a", "content": "x"})
        assert {early.json()["code"], anonymous.json()["code"]} == {"approval_pending"}
        assert offered["approval_id"] == question["approval_id"]
        assert again.json()["attempt"] == 2
        assert types(events).count("tool.completed") == 1

    async def test_a_no_tells_the_model_that_the_outcome_is_unknown(self, model: Upstream, hasty: Person) -> None:
        """The call has failed, with what the person said."""
        model.play(calls_answer(WRITE))
        model.play(text_answer("Done."))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        question = await asked_about(hasty, session)
        await hasty.decide(session, question["approval_id"], "reject", feedback="it is there")
        done = last(await hasty.until(session, *END), "tool.completed")
        told = model.bodies[-1]["messages"][-1]["content"]

        assert done["status"] == "failed"
        assert "its outcome is unknown" in told
        assert told.endswith("The person says: it is there")

    async def test_an_edit_passes_the_gate_and_is_what_runs(self, model: Upstream, hasty: Person) -> None:
        """Arguments that do not fit are refused; the claim gives those that the person wrote."""
        model.play(calls_answer(WRITE))
        model.play(text_answer("Done."))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        question = await asked_about(hasty, session)
        bad = await hasty.decide(session, question["approval_id"], "edit", modified_arguments={"path": 1})
        changed = {"path": "b", "content": "y"}
        await hasty.decide(session, question["approval_id"], "edit", modified_arguments=changed)
        claimed = await claim(hasty, session, "write", "other")
        await hasty.answer(session, "write", result="done", client_id="other")
        await hasty.until(session, *END)

        assert (bad.status_code, bad.json()["field"]) == (400, "modified_arguments")
        assert claimed.json()["arguments"] == changed
        assert msgspec.json.decode(model.bodies[-1]["messages"][-1]["content"])["arguments"] == changed

    async def test_a_late_result_answers_the_question(self, model: Upstream, hasty: Person) -> None:
        """The client that was away brings its result: the question is withdrawn, and only then."""
        model.play(calls_answer(WRITE))
        model.play(text_answer("Done."))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        question = await asked_about(hasty, session)
        late = [await hasty.answer(session, "write", result="done", client_id="gone") for _ in range(2)]
        decided = await hasty.decide(session, question["approval_id"], "approve")
        events = await hasty.until(session, *END)

        assert late[0].json() == late[1].json()
        assert last(events, "approval.resolved")["status"] == "cancelled"
        assert (decided.status_code, decided.json()["approval"]["status"]) == (409, "cancelled")
        assert [event.data["result"] for event in events if event.type == "tool.completed"] == ["done"]

    async def test_decision_and_late_result_together_end_it_once(self, model: Upstream, hasty: Person) -> None:
        """Whichever comes first, the model reads one result."""
        for _ in range(6):
            model.play(calls_answer(WRITE))
            model.play(text_answer("Done."))
            session = await writing(hasty)
            await claim(hasty, session, "write", "gone")
            question = await asked_about(hasty, session)
            await asyncio.gather(
                hasty.answer(session, "write", result="done", client_id="gone"),
                hasty.decide(session, question["approval_id"], "reject"),
            )
            events = await hasty.until(session, *END)

            assert types(events).count("tool.completed") == 1
            assert types(events).count("approval.resolved") == 2

    async def test_the_database_is_whole_while_a_person_is_asked(
        self, model: Upstream, hasty: Person, migrated: DatabaseUrls
    ) -> None:
        """`codelab db check` finds no fault in a call of unknown outcome."""
        model.play(calls_answer(WRITE))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        await asked_about(hasty, session)

        assert (await check(parse_url(migrated.agent, ""), STORAGE)).whole

    async def test_a_cancel_closes_the_question(self, model: Upstream, hasty: Person) -> None:
        """Nothing is left open."""
        model.play(calls_answer(WRITE))
        session = await writing(hasty)
        await claim(hasty, session, "write", "gone")
        await asked_about(hasty, session)
        await hasty.http.post(f"/api/v1/sessions/{session}/cancel")

        assert last(await hasty.until(session, *END), "tool.completed")["status"] == "cancelled"
        assert await pending(hasty, session) == []

    async def test_a_claim_outlives_the_server_but_not_its_client(
        self, model: Upstream, serve: Serve, with_model: dict[str, Any]
    ) -> None:
        """After a restart the call is still its client's; one that does not come back loses it."""
        model.play(calls_answer(READ, WRITE))
        settings = {**with_model, "claim_grace_seconds": LATER}
        async with serve(**settings) as running:
            ada = await running.person()
            session = await writing(ada)
            await claim(ada, session, "write", "gone")
            await claim(ada, session, "read", "stays")
        async with serve(**settings) as running:
            ada = await running.person()
            async with attached(ada, session, "stays"):
                assert (await claim(ada, session, "write", "other")).json()["code"] == "call_claimed"
                await asked_about(ada, session)
                assert (await claim(ada, session, "read", "other")).json()["code"] == "call_claimed"
            assert (await offered_again(ada, session))["call_id"] == "read"
