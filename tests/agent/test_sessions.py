"""Sessions: made, found, changed, deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.agent.transcripts import END, last

if TYPE_CHECKING:
    from tests.support.server import Person, Running

UNRESERVED = "aZ09._~-"


class TestCreate:
    async def test_a_session_has_all_its_members(self, ada: Person) -> None:
        """What was asked for is answered, the rest begins empty, and GET says the same."""
        metadata = {"b": [1, None], "a": {"x": "é"}}
        body = {"session_id": "mine", "title": "A title", "agent": "debug", "metadata": metadata}
        made = await ada.http.post("/api/v1/sessions", json=body)
        session = made.json()
        found = (await ada.http.get("/api/v1/sessions/mine")).json()

        assert made.status_code == 201
        assert session == found
        times = {session.pop(name) for name in ("created_at", "updated_at", "last_activity")}
        assert len(times) == 1
        assert session == {
            "id": "mine",
            "session_id": "mine",
            "title": "A title",
            "description": None,
            "current_agent": "debug",
            "message_count": 0,
            "is_active": True,
            "metadata": metadata,
            "last_seq": 0,
            "active_turn": None,
            "usage": None,
            "model": None,
            "plan": None,
        }

    @pytest.mark.parametrize("raw", [None, b"{}", b"null"], ids=["no body", "empty object", "null"])
    async def test_nothing_needs_to_be_said(self, ada: Person, raw: bytes | None) -> None:
        """Without a body the session gets a UUIDv7, no title, and the orchestrator."""
        answer = await ada.http.post(
            "/api/v1/sessions", content=raw, headers={"Content-Type": "application/json"} if raw else {}
        )
        session = answer.json()

        assert answer.status_code == 201, answer.text
        assert UUID(session["id"]).version == 7
        assert (session["title"], session["current_agent"], session["metadata"]) == (None, "orchestrator", {})

    async def test_ids_of_clients(self, ada: Person) -> None:
        """1 to 36 unreserved characters are an id, but not what URLs drop; all else is refused, naming the field."""
        for good in ("a", "-", "~", "...", UNRESERVED, "x" * 36, "01a20605-7db3-7261-b5f5-64e29c1e450c"):
            assert await ada.session(session_id=good) == good
            assert (await ada.http.get(f"/api/v1/sessions/{good}")).json()["id"] == good
        bad: list[Any] = ["", ".", "..", "x" * 37, "a b", "a/b", "a\n", "\na", "ä", "a\x00", "a%20", "a?b"]
        bad += [5, True, ["a"], {}]
        for wrong in bad:
            answer = await ada.http.post("/api/v1/sessions", json={"session_id": wrong})
            assert (answer.status_code, answer.json().get("field")) == (400, "session_id"), (wrong, answer.text)

    async def test_an_id_is_taken_once_until_it_is_deleted(self, ada: Person) -> None:
        """Of twenty at once one is made, nineteen get 409; after the deletion the id is free again."""
        answers = await asyncio.gather(
            *(ada.http.post("/api/v1/sessions", json={"session_id": "one", "title": str(n)}) for n in range(20))
        )
        refused = [answer.json() for answer in answers if answer.status_code == 409]
        assert len(refused) == 19
        assert {(problem["code"], problem["field"]) for problem in refused} == {("session_exists", "session_id")}

        await ada.say("one", "count to 1")
        await ada.until("one", *END)
        assert (await ada.http.delete("/api/v1/sessions/one")).status_code == 204
        again = await ada.http.post("/api/v1/sessions", json={"session_id": "one"})

        assert again.status_code == 201
        assert again.json()["message_count"] == 0
        assert await ada.history("one") == []

    async def test_two_people_may_use_the_same_id(self, running: Running, ada: Person) -> None:
        """Each has their own session, and neither learns that the other has one."""
        bob = await running.person("bob")
        await ada.session(session_id="same", title="ada's")
        before = (await bob.http.get("/api/v1/sessions/same")).status_code
        made = await bob.http.post("/api/v1/sessions", json={"session_id": "same", "title": "bob's"})
        await bob.http.delete("/api/v1/sessions/same")

        assert (before, made.status_code) == (404, 201)
        assert (await ada.http.get("/api/v1/sessions/same")).json()["title"] == "ada's"

    async def test_what_does_not_fit_is_refused_by_name(self, ada: Person) -> None:
        """Title, agent and metadata have limits; the limit itself is allowed."""
        fits = {"title": "ü" * 500, "metadata": {"k": "x" * (64 * 1024 - 8)}}
        assert (await ada.http.post("/api/v1/sessions", json=fits)).status_code == 201
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"title": "x" * 501}, "title"),
            ({"title": "a\x00b"}, "title"),
            ({"title": 5}, "title"),
            ({"agent": "nobody"}, "agent"),
            ({"agent": "universal"}, "agent"),
            ({"metadata": {"k": "x" * (64 * 1024 - 7)}}, "metadata"),
            ({"metadata": []}, "metadata"),
            ({"metadata": {"a": {"b": ["\x00"]}}}, "metadata.a.b[0]"),
            ({"metadata": {"a\x00": 1}}, "metadata"),
            ({"metadata": {"instructions": ["do"]}}, "metadata.instructions"),
        ]
        for body, field in wrong:
            answer = await ada.http.post("/api/v1/sessions", json=body)
            assert (answer.status_code, answer.json()["field"]) == (400, field), body


class TestChange:
    async def test_what_is_absent_stays(self, ada: Person) -> None:
        """PATCH changes the members that it names; null takes a title away."""
        session = await ada.session(title="old", metadata={"a": 1})
        url = f"/api/v1/sessions/{session}"
        before = (await ada.http.get(url)).json()
        titled = (await ada.http.patch(url, json={"title": "new"})).json()
        described = (await ada.http.patch(url, json={"metadata": {"b": 2}})).json()
        untitled = (await ada.http.patch(url, json={"title": None})).json()
        unchanged = (await ada.http.patch(url, json={})).json()

        assert (titled["title"], titled["metadata"]) == ("new", {"a": 1})
        assert (described["title"], described["metadata"]) == ("new", {"b": 2})
        assert (untitled["title"], untitled["metadata"]) == (None, {"b": 2})
        assert unchanged == untitled == (await ada.http.get(url)).json()
        assert before["updated_at"] < titled["updated_at"] < untitled["updated_at"]

    async def test_the_first_message_titles_a_session_that_has_none(self, ada: Person) -> None:
        """Its first 500 characters on one line become the title, once; a title that was given stays."""
        untitled, titled = await ada.session(agent="ask"), await ada.session(agent="ask", title="mine")
        for session in (untitled, titled):
            await ada.say(session, "count \n\t to 1 " + "é" * 600)
            await ada.say(session, "something else")
        titles = [(await ada.http.get(f"/api/v1/sessions/{s}")).json()["title"] for s in (untitled, titled)]

        assert titles == [("count to 1 " + "é" * 600)[:500], "mine"]


class TestDelete:
    async def test_a_deleted_session_is_gone_and_its_work_ends(self, running: Running, ada: Person) -> None:
        """The running turn and those in line are cancelled, the approval too, and every route says 404."""
        session = await ada.session(agent="coder")
        await ada.say(session, "create hello.py that prints hi")
        approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
        # A client that may not decide: its message waits for the approval.
        await (await running.person(scope="api:read api:write")).say(session, "count to 3")
        async with ada.following(session) as events:
            deleted = await ada.http.delete(f"/api/v1/sessions/{session}")
            seen = [event async for event in events]
        end = seen.pop()

        assert (end.type, end.data["reason"]) == ("stream.end", "session_deleted")
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert [event.type for event in seen].count("turn.cancelled") == 2
        assert last(seen, "approval.resolved")["status"] == "cancelled"
        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert (await ada.http.delete(f"/api/v1/sessions/{session}")).status_code == 404
        assert (await ada.decide(session, approval["approval_id"], "approve")).status_code == 404
        assert (await ada.http.get("/api/v1/sessions")).json()["sessions"] == []

    async def test_deleting_stops_the_model(self, running: Running, ada: Person) -> None:
        """An answer that streams ends at once: nothing works on the session any more."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 5000")
        await ada.until(session, "message.delta")
        await ada.http.delete(f"/api/v1/sessions/{session}")
        runner = running.app.state.agent.runner
        async with asyncio.timeout(20):
            while runner.running:
                await asyncio.sleep(0.01)

        assert runner._steps == {}
