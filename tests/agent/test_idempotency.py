"""Idempotency-Key: a request that is repeated gets its answer again, and has its effect once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from codelab import idempotency
from codelab.agent import cleaning
from codelab.settings import AgentSettings
from tests.agent.routes import list_routes
from tests.agent.transcripts import END, last
from tests.agent.witness import Witness
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    import httpx2
    import pytest

    from tests.agent.conftest import Serve
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

REPLAYED = "Idempotent-Replayed"
#: These change nothing, so they need no key.
ONLY_READING = {
    "/api/v1/ws-tickets",
    "/api/v1/policy/explain",
    "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview",
}
#: ``test_mcp`` repeats this one.
WITH_A_SERVER = "/api/v1/sessions/{session_id}/mcp-servers"
#: ``tests/auth/test_idempotency.py`` repeats those of module auth, ``test_inbox`` the one of this module.
ADMINS = "/api/v1/admin/"


async def post(person: Person, url: str, body: Any, key: str) -> httpx2.Response:
    """Send a request with a key."""
    return await person.http.post(url, json=body, headers={"Idempotency-Key": key})


async def test_every_post_is_carried_out_once(running: Running, ada: Person, migrated: DatabaseUrls) -> None:
    """The same key and body: status and body byte for byte, and a header; the database stays as it was."""
    session = await ada.session(agent="coder")
    await ada.say(session, "create hello.py that prints hi")
    approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
    bodies: dict[str, Any] = {
        "/api/v1/sessions": {"title": "t", "metadata": {"a": [1, 2.5, "é"]}},
        "/api/v1/sessions/{session_id}/approvals/{approval_id}": {"decision": "approve"},
        "/api/v1/sessions/{session_id}/tool-calls/{call_id}/claim": {"client_id": "me"},
        "/api/v1/sessions/{session_id}/tool-results": {
            "call_id": approval["call_id"],
            "client_id": "me",
            "result": {"a": 1e5},
        },
        # After the decision: a message would take its place.
        "/api/v1/sessions/{session_id}/messages": {"content": "count to 1"},
        "/api/v1/agents/{session_id}/switch": {"target_agent": "debug", "reason": "why"},
        "/api/v1/sessions/{session_id}/cancel": None,
    }
    routes = [route for route in list_routes(running.app, "/api/v1") if route.method == "POST"]
    posts = {route.path: route for route in routes if not route.path.startswith(ADMINS)}
    assert set(posts) == set(bodies) | ONLY_READING | {WITH_A_SERVER}
    async with Witness.at(migrated) as witness:
        for path, body in bodies.items():
            url = posts[path].url(session_id=session, approval_id=approval["approval_id"], call_id=approval["call_id"])
            first = await post(ada, url, body, "k1")
            assert first.is_success, first.text
            assert REPLAYED not in first.headers
            made = await witness.rows("SELECT count(*) FROM sessions")
            said = await witness.rows("SELECT count(*) FROM messages WHERE role = 'user'")
            for key in ("k1", '"k1"'):
                again = await post(ada, url, body, key)
                assert (again.status_code, again.content) == (first.status_code, first.content), path
                assert again.headers[REPLAYED] == "true"
            assert await witness.rows("SELECT count(*) FROM sessions") == made
            assert await witness.rows("SELECT count(*) FROM messages WHERE role = 'user'") == said


async def test_another_body_is_refused(ada: Person) -> None:
    """A key names one request; another route, session or person has keys of its own."""
    one, two = await ada.session(agent="ask"), await ada.session(agent="ask")
    url = f"/api/v1/sessions/{one}/messages"
    first = await post(ada, url, {"content": "count to 1"}, "k")
    other = await post(ada, url, {"content": "count to 2"}, "k")
    elsewhere = await post(ada, f"/api/v1/sessions/{two}/messages", {"content": "count to 2"}, "k")

    assert first.status_code == elsewhere.status_code == 202
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (
        409,
        "idempotency_key_reused",
        "Idempotency-Key",
    )
    assert [m["content"] for m in await ada.history(one) if m["role"] == "user"] == ["count to 1"]


async def test_a_person_cannot_see_what_another_was_answered(running: Running, ada: Person) -> None:
    """The same key of two people on the same route: two sessions."""
    bob = await running.person("bob")
    mine = await post(ada, "/api/v1/sessions", {"title": "mine"}, "k")
    theirs = await post(bob, "/api/v1/sessions", {"title": "theirs"}, "k")

    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]


async def test_repetitions_at_the_same_time_wait_for_the_first(ada: Person) -> None:
    """Twenty at once: one message, twenty times the same answer."""
    session = await ada.session(agent="ask")
    url = f"/api/v1/sessions/{session}/messages"
    answers = await asyncio.gather(*(post(ada, url, {"content": "count to 1"}, "k") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 19
    assert [m["role"] for m in await ada.history(session)].count("user") == 1


async def test_an_error_is_not_kept(ada: Person) -> None:
    """What had no effect is tried anew, and may succeed then."""
    body = {"session_id": "mine"}
    await ada.http.post("/api/v1/sessions", json=body)
    refused = await post(ada, "/api/v1/sessions", body, "k")
    await ada.http.delete("/api/v1/sessions/mine")
    made = await post(ada, "/api/v1/sessions", body, "k")

    assert (refused.status_code, made.status_code) == (409, 201)
    assert REPLAYED not in made.headers


async def test_bad_keys_are_named(ada: Person) -> None:
    """Empty, too long, or no printable ASCII."""
    for key in (b"", b'""', b"x" * 256, b"\xc3\xa9", b"a b", b'"a'):
        answer = await ada.http.post("/api/v1/sessions", json={}, headers={b"Idempotency-Key": key})
        problem = answer.json()
        assert answer.status_code == 400, key
        assert (problem["code"], problem["field"]) == ("invalid_request", "Idempotency-Key")


async def test_a_key_outlives_the_server(serve: Serve) -> None:
    """Another process gives the answer of the one before."""
    async with serve() as running:
        ada = await running.person()
        first = await post(ada, "/api/v1/sessions", {"title": "t"}, "k")
    async with serve() as running:
        ada = await running.person()
        again = await post(ada, "/api/v1/sessions", {"title": "t"}, "k")
        total = (await ada.http.get("/api/v1/sessions")).json()["total"]

    assert again.content == first.content
    assert total == 1


async def test_answers_end_after_a_day(
    running: Running, ada: Person, migrated: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old key is a new one, also before its row is removed; and the rows are removed."""
    first = await post(ada, "/api/v1/sessions", {"title": "t"}, "k")
    kept = await post(ada, "/api/v1/sessions", {"title": "t"}, "other")
    monkeypatch.setattr(idempotency, "KEPT", timedelta(0))
    second = await post(ada, "/api/v1/sessions", {"title": "changed"}, "k")
    async with Witness.at(migrated) as witness:
        before = await witness.rows("SELECT count(*) FROM kept_answers")
        counts = await cleaning.clean(running.app.state.agent.database, AgentSettings())
        after = await witness.rows("SELECT count(*) FROM kept_answers")

    assert {answer.status_code for answer in (first, kept, second)} == {201}
    assert first.json()["id"] != second.json()["id"]
    assert (before, counts["kept answers"], after) == ([(2,)], 2, [(0,)])


async def test_frames_and_requests_share_their_keys(ada: Person) -> None:
    """A message that was sent over the socket is not sent again over HTTP."""
    session = await ada.session(agent="ask")
    async with socket_of(ada, session) as socket:
        sent = await socket.ask("message.send", content="count to 1", idempotency_key="k")
        again = await socket.ask("message.send", content="count to 1", idempotency_key="k")
        other = await socket.ask("message.send", content="count to 2", idempotency_key="k")
        bad = await socket.ask("turn.cancel", idempotency_key="")
    over_http = await post(ada, f"/api/v1/sessions/{session}/messages", {"content": "count to 1"}, "k")
    await ada.until(session, *END)

    assert "replayed" not in sent
    assert again["replayed"] is True
    assert sent["result"] == again["result"] == over_http.json()
    assert other["error"]["code"] == "idempotency_key_reused"
    assert (bad["error"]["status"], bad["error"]["field"]) == (400, "idempotency_key")
    assert len([m for m in await ada.history(session) if m["role"] == "user"]) == 1


async def test_an_answer_too_long_to_keep_has_its_effect_once(serve: Serve, migrated: DatabaseUrls) -> None:
    """The repetition is refused and makes no second session, with a sentence that says why; a short answer is kept."""
    async with serve(max_kept_answer_bytes=1000) as running, Witness.at(migrated) as witness:
        ada = await running.person()
        long: dict[str, Any] = {"metadata": {"note": "n" * 1000}}
        assert (await post(ada, "/api/v1/sessions", long, "long")).status_code == 201
        before = await witness.counts()
        again = await post(ada, "/api/v1/sessions", long, "long")
        other = await post(ada, "/api/v1/sessions", {}, "long")

        assert (again.status_code, again.json()["code"]) == (409, "answer_not_kept")
        assert other.json()["code"] == "idempotency_key_reused"
        assert await witness.counts() == before
        assert (await post(ada, "/api/v1/sessions", {}, "short")).status_code == 201
        assert (await post(ada, "/api/v1/sessions", {}, "short")).headers[REPLAYED] == "true"
