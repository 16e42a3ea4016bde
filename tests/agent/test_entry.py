"""Who is calling without an ``Authorization`` header: tickets, the bearer subprotocol, the internal key."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus

from codelab.agent.entry import Tickets
from codelab.agent.entry import tickets as tickets_module
from codelab.errors import StartError, Unauthenticated
from codelab.identity import Principal
from codelab.settings import Settings
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer
from tests.reference.clients import is_call, is_final, open_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

KEY = "k7Qe2VvYcA9mZs41LxTtB8uWnRdGhJp0"
FACES = ("/api/v1/sessions/{}/stream", "/api/v1/ws/{}", "/ws/{}")


async def status_of(base: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> int:
    """Try a handshake; return the status of its answer, 101 where it is let in."""
    try:
        async with open_socket(base, path, headers or {}, **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return what the server logged, at every level."""
    return "".join(str(vars(record)) for record in caplog.records if record.name.startswith("codelab"))


async def ticket_of(person: Person, session: str) -> str:
    """Ask for a ticket."""
    answer = await person.http.post("/api/v1/ws-tickets", json={"session_id": session})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert (made["session_id"], made["expires_in"]) == (session, 30)
    return str(made["ticket"])


class TestTickets:
    async def test_a_ticket_opens_one_socket_of_its_session(
        self, running: Running, ada: Person, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It works once, on every face, for its own session and its own person alone; no log has it."""
        caplog.set_level(logging.DEBUG, "codelab")
        mine, other = await ada.session(), await ada.session()
        bob = await running.person("bob")
        shown: list[str] = []
        for face in FACES:
            good, for_other = await ticket_of(ada, mine), await ticket_of(ada, other)
            shown += [good, for_other]
            assert await status_of(running.url, f"{face.format(mine)}?ticket={good}") == 101
            assert await status_of(running.url, f"{face.format(mine)}?ticket={good}") == 401
            assert await status_of(running.url, f"{face.format(mine)}?ticket={for_other}") == 401
            assert await status_of(running.url, f"{face.format(other)}?ticket={for_other}") == 401  # used up by the try
            assert await status_of(running.url, face.format(mine) + "?ticket=nonsense") == 401
        assert await status_of(running.url, f"{FACES[0].format(mine)}?ticket={await ticket_of(bob, mine)}") == 404
        # Over HTTP a ticket is nothing.
        answer = await running.http.get(f"/api/v1/sessions/{mine}?ticket={await ticket_of(ada, mine)}")

        assert answer.status_code == 401
        assert logged(caplog)
        assert not [ticket for ticket in shown if ticket in logged(caplog)]

    async def test_a_socket_by_ticket_has_the_scopes_of_the_token(self, running: Running, ada: Person) -> None:
        """Who may only read gets a ticket, and a socket that takes no command."""
        session = await ada.session(agent="ask")
        reader = await running.person(scope="api:read")
        async with open_socket(running.url, f"/ws/{session}?ticket={await ticket_of(reader, session)}", {}) as talk:
            await talk.say("hello")
            chunk = await talk.read()

        assert "lacks the scope api:write" in chunk["error"]

    async def test_time_disabling_and_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A ticket ends after its time, with its person, with its token, and when too many come after it."""
        ada = Principal(subject="a", username="ada", client_id="c", scopes=frozenset())
        valid: set[Principal] = {ada}

        async def still_valid(principals: Any) -> set[Principal]:
            return valid & set(principals)

        tickets = Tickets(still_valid)
        for seconds, expires_at, is_valid in ((0, None, True), (30, None, True), (30, 1.0, True), (30, None, False)):
            principal = Principal(subject="a", username="ada", client_id="c", scopes=frozenset(), expires_at=expires_at)
            valid = {principal} if is_valid else set()
            with monkeypatch.context() as patch:
                patch.setattr(tickets_module, "TICKET_SECONDS", seconds)
                ticket = tickets.issue(principal, "s")
            if seconds and is_valid and expires_at is None:
                assert await tickets.redeem(ticket, "s") == principal
            else:
                with pytest.raises(Unauthenticated):
                    await tickets.redeem(ticket, "s")
        monkeypatch.setattr(tickets_module, "MOST", 2)
        valid = {ada}
        first, second, third = (tickets.issue(ada, "s") for _ in range(3))
        with pytest.raises(Unauthenticated):
            await tickets.redeem(first, "s")
        assert await tickets.redeem(second, "s") == await tickets.redeem(third, "s") == ada


async def test_the_token_as_a_subprotocol(running: Running, ada: Person) -> None:
    """``bearer`` and the token open every face; the server chooses ``bearer``, and repeats no token."""
    session = await ada.session()
    token = ada.http.headers["Authorization"].removeprefix("Bearer ")
    for face in FACES:
        path = face.format(session)
        async with open_socket(running.url, path, {}, subprotocols=["bearer", token]) as talk:
            assert talk.connection.subprotocol == "bearer"
            assert talk.connection.response is not None
            assert token not in str(talk.connection.response.headers)
        for bad in (["bearer"], ["bearer", "nonsense"], ["bearer", token, "more"], [token, "bearer"]):
            assert await status_of(running.url, path, subprotocols=bad) == 401, bad
    # Over HTTP it is nothing.
    headers = {"Sec-WebSocket-Protocol": f"bearer, {token}"}
    assert (await running.http.get(f"/api/v1/sessions/{session}", headers=headers)).status_code == 401


class TestInternalKey:
    async def test_it_is_a_program_with_sessions_of_its_own(
        self,
        start: Callable[..., Awaitable[Running]],
        with_model: dict[str, Any],
        model: Upstream,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It reads and writes its own, sees nobody's, decides nothing; no model and no log ever gets the key."""
        caplog.set_level(logging.DEBUG, "codelab")
        running = await start(**with_model, internal_api_key=KEY)
        ada = await running.person()
        hers = await ada.session()
        key = {"X-Internal-Auth": KEY}
        made = (await running.http.post("/sessions", json={"agent": "coder"}, headers=key)).json()["id"]
        listed = (await running.http.get("/api/v1/sessions", headers=key)).json()
        model.play(calls_answer(call("write_file", {"path": "a", "content": ""}, id="c1")))
        async with open_socket(running.url, f"/api/v1/ws/{made}", key) as talk:
            await talk.say("write")
            await talk.until(is_call)
            await talk.send("tool_result", call_id="c1", result="done")
            (refused,) = await talk.until(is_final)
            await talk.send("hitl_decision", call_id="c1", decision="approve")
            (also,) = await talk.until(is_final)
        pending = (await running.http.get(f"/sessions/{made}/pending-approvals", headers=key)).json()

        assert [session["id"] for session in listed["sessions"]] == [made]
        assert (await running.http.get(f"/api/v1/sessions/{hers}", headers=key)).status_code == 404
        assert (await ada.http.get(f"/api/v1/sessions/{made}")).status_code == 404
        assert "approvals:decide" in refused["error"]
        assert "approvals:decide" in also["error"]
        assert pending["count"] == 1
        assert KEY not in str([dict(request.headers) for request in model.requests]) + str(model.bodies) + logged(
            caplog
        )
        assert KEY not in repr(running.app.state.agent.__dict__)

    async def test_its_streams_live_and_other_keys_get_nothing(
        self, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
    ) -> None:
        """A stream of the program outlives the look at who may still read; a wrong key is refused everywhere."""
        running = await start(**with_model, internal_api_key=KEY)
        ada = await running.person()
        model.play(text_answer("Hello."))
        async with open_socket(running.url, "/ws/mine", {"X-Internal-Auth": KEY}) as talk:
            await running.app.state.agent.readers.end_invalid()
            await talk.say("explain")
            assert (await talk.until(is_final))[-1]["content"] == "Hello."
        for wrong in (KEY[:-1], KEY + "x", KEY.lower(), "", "change-me-internal-key"):
            answer = await running.http.get("/api/v1/sessions", headers={"X-Internal-Auth": wrong})
            assert (answer.status_code, answer.json()["detail"]) == (401, "unauthorized"), wrong
            assert await status_of(running.url, "/ws/mine", {"X-Internal-Auth": wrong}) == 401
        # Who shows a token is who the token says.
        assert (await ada.http.get("/api/v1/sessions", headers={"X-Internal-Auth": KEY})).json()["total"] == 0

    async def test_it_is_off_unless_it_is_set(self, running: Running) -> None:
        """No key opens a server that has none, also not an empty one."""
        for key in ("", KEY, "change-me-internal-key", "None"):
            answer = await running.http.get("/api/v1/sessions", headers={"X-Internal-Auth": key})
            assert answer.status_code == 401

    def test_a_key_that_can_be_guessed_is_refused_at_the_start(self) -> None:
        """Short keys, the reference's own and those without variety; the line never shows the key."""
        assert Settings.from_environ({"AGENT_RUNTIME__INTERNAL_API_KEY": KEY}).agent.internal_api_key == KEY
        assert Settings.from_environ({}).agent.internal_api_key is None
        for bad in (
            "change-me-internal-key",
            "my-super-secret-key",
            "internal-secret-change-in-production",
            "change-me-internal-key-change-me-internal-key",
            KEY[:31],
            "a" * 64,
            f"{KEY} {KEY}",
            f"{KEY}é",
        ):
            with pytest.raises(StartError) as refused:
                Settings.from_environ({"AGENT_RUNTIME__INTERNAL_API_KEY": bad})
            assert "AGENT_RUNTIME__INTERNAL_API_KEY" in str(refused.value)
            assert bad not in str(refused.value)
