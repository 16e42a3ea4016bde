"""What happens to a message that comes while a turn runs: it waits in order, can be taken back, or is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.agent.providers.upstream import STALL, text_answer
from tests.agent.transcripts import END, asked, text_of
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person


async def busy(model: Upstream, talker: Person) -> tuple[str, dict[str, Any]]:
    """Make a session whose turn hangs in its model call; return it and the acknowledgement."""
    model.play(text_of("Well"), STALL)
    session = await talker.session(agent="ask")
    accepted = await talker.say(session, "first")
    await talker.until(session, "message.delta")
    return session, accepted


async def queue_of(person: Person, session: str) -> list[dict[str, Any]]:
    """Return what waits."""
    answer = (await person.http.get(f"/api/v1/sessions/{session}/queue")).json()
    assert answer["count"] == len(answer["queue"])
    assert answer["session_id"] == session
    queue: list[dict[str, Any]] = answer["queue"]
    return queue


async def test_what_waits_is_listed_in_order_and_can_be_taken_back(model: Upstream, talker: Person) -> None:
    """A removed message is answered by nobody and seen by no model; the others keep their order."""
    session, active = await busy(model, talker)
    model.play(text_answer("2."))
    model.play(text_answer("4."))
    waiting = [await talker.say(session, content) for content in ("second", "third", "fourth")]
    listed = await queue_of(talker, session)
    url = f"/api/v1/sessions/{session}/queue"
    removed = await talker.http.delete(f"{url}/{waiting[1]['turn_id']}")
    twice = await talker.http.delete(f"{url}/{waiting[1]['turn_id']}")
    begun = await talker.http.delete(f"{url}/{active['turn_id']}")
    unknown = await talker.http.delete(f"{url}/nothing")
    left = await queue_of(talker, session)
    await talker.http.post(f"/api/v1/sessions/{session}/cancel")
    events = await talker.until(session, *END, turn=waiting[2]["turn_id"])
    said = {m["content"]: m["status"] for m in await talker.history(session) if m["role"] == "user"}

    assert [(item["turn_id"], item["message_id"]) for item in listed] == [
        (accepted["turn_id"], accepted["message_id"]) for accepted in waiting
    ]
    assert [item["content"] for item in left] == ["second", "fourth"]
    assert (removed.status_code, removed.json()) == (200, {"turn_id": waiting[1]["turn_id"], "state": "cancelled"})
    assert (twice.status_code, twice.json()["code"]) == (409, "turn_started")
    assert (begun.status_code, begun.json()["code"]) == (409, "turn_started")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_turn")
    assert [asked(body) for body in model.bodies] == ["first", "second", "fourth"]
    assert "third" not in str(model.bodies)
    assert said == {"first": "completed", "second": "completed", "third": "interrupted", "fourth": "completed"}
    assert [e.data["turn_id"] for e in events if e.type == "turn.completed"] == [
        waiting[0]["turn_id"],
        waiting[2]["turn_id"],
    ]
    assert await queue_of(talker, session) == []


async def test_reject_refuses_while_a_turn_is_active(model: Upstream, talker: Person) -> None:
    """On both faces, with the active turn, and nothing is kept of the message; an idle session takes it."""
    session, active = await busy(model, talker)
    url, body = f"/api/v1/sessions/{session}/messages", {"content": "now", "delivery": "reject"}
    refused = await talker.http.post(url, json=body)
    async with socket_of(talker, session) as socket:
        error = (await socket.ask("message.send", **body))["error"]
    bad = await talker.http.post(url, json={"content": "now", "delivery": "soon"})
    await talker.http.post(f"/api/v1/sessions/{session}/cancel")
    model.play(text_answer("Yes."))
    taken = await talker.http.post(url, json=body)
    await talker.until(session, *END, turn=taken.json()["turn_id"])

    expected = {"turn_id": active["turn_id"], "state": "running"}
    assert (refused.status_code, refused.json()["code"], refused.json()["active_turn"]) == (
        409,
        "turn_active",
        expected,
    )
    assert (error["code"], error["active_turn"]) == ("turn_active", expected)
    assert (bad.status_code, bad.json()["field"]) == (400, "delivery")
    assert taken.status_code == 202
    assert [m["content"] for m in await talker.history(session) if m["role"] == "user"] == ["first", "now"]


async def test_of_many_at_once_one_is_taken(model: Upstream, talker: Person) -> None:
    """Ten messages that must not wait, at the same time: one turn."""
    model.play(text_of("Well"), STALL)
    session = await talker.session(agent="ask")
    body = {"content": "now", "delivery": "reject"}
    answers = await asyncio.gather(
        *(talker.http.post(f"/api/v1/sessions/{session}/messages", json=body) for _ in range(10))
    )

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 9
