"""The WebSocket: the same log, all commands, and nothing that a bad frame could break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running


def is_end(event: Event) -> bool:
    """Tell whether a turn ended."""
    return event.type in END


class TestEvents:
    async def test_it_gives_the_log_of_the_stream_from_every_cursor(self, ada: Person) -> None:
        """The same events in the same order, from wherever it is read."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 20")
        whole = await ada.until(session, *END)
        for after in range(len(whole)):
            async with socket_of(ada, session, after=after) as socket:
                assert await socket.until(is_end) == whole[after:]
        async with socket_of(ada, session) as socket:
            assert await socket.until(is_end) == whole

    async def test_latest_and_beyond_the_end_wait_for_what_is_new(self, ada: Person) -> None:
        """Nothing of the past is sent."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 1")
        end = len(await ada.until(session, *END))
        async with socket_of(ada, session, after="latest") as new, socket_of(ada, session, after=end + 2) as later:
            await ada.say(session, "count to 1")
            first = await new.until(is_end)
            second = await later.until(is_end)

        assert [event.seq for event in first] == list(range(end + 1, 2 * end + 1))
        assert second == first[2:]


class TestCommands:
    async def test_a_whole_turn_over_one_socket(self, model: Upstream, talker: Person) -> None:
        """Message, switch, decisions, results, cancel and ping: each reply has its id and the shape of its route."""
        model.play(
            calls_answer(
                call("read_file", {"path": "a"}, id="read"),
                call("write_file", {"path": "a", "content": ""}, id="write"),
                call("write_file", {"path": "b", "content": ""}, id="no"),
            )
        )
        model.play(text_answer("Done."))
        session = await talker.session(agent="ask")
        async with socket_of(talker, session) as socket:
            assert await socket.ask("ping") == {"reply_to": "c1", "ok": True, "result": {}}
            switched = await socket.ask("agent.switch", target_agent="coder", reason="I say so")
            assert switched["ok"], switched
            sent = await socket.ask("message.send", content="go")
            assert set(sent["result"]) == {"message_id", "turn_id", "seq"}
            await socket.until(lambda event: event.type == "turn.waiting")
            approvals = {e.data["call_id"]: e.data["approval_id"] for e in socket.events if "approval_id" in e.data}
            yes = await socket.ask("approval.decide", approval_id=approvals["write"], decision="approve")
            no = await socket.ask("approval.decide", approval_id=approvals["no"], decision="reject", feedback="why?")
            again = await socket.ask("approval.decide", approval_id=approvals["no"], decision="approve")
            read = await socket.ask("tool_result", call_id="read", result={"content": "x"})
            wrote = await socket.ask("tool_result", call_id="write", error="disk full")
            events = await socket.until(is_end)
            nothing = await socket.ask("turn.cancel")

        assert (yes["result"]["status"], no["result"]["status"]) == ("approved", "rejected")
        assert (again["error"]["status"], again["error"]["code"]) == (409, "approval_decided")
        assert again["error"]["approval"]["status"] == "rejected"
        assert (read["result"]["status"], wrote["result"]["status"]) == ("completed", "failed")
        assert nothing["result"] == {"turn_id": None, "state": None}
        assert events[-1].type == "turn.completed"
        assert events[0].data["to_agent"] == "coder"

    async def test_what_is_replied_is_committed(self, ada: Person) -> None:
        """Another client finds in the log what the reply names, at once."""
        session = await ada.session(agent="ask")
        async with socket_of(ada, session, after="latest") as socket:
            for _ in range(10):
                reply = await socket.ask("message.send", content="count to 1")
                seq = reply["result"]["seq"]
                params = {"format": "json", "after": str(seq - 1), "limit": "1"}
                page = (await ada.http.get(f"/api/v1/sessions/{session}/events", params=params)).json()
                assert page["events"][0]["data"]["message_id"] == reply["result"]["message_id"]

    async def test_commands_of_one_socket_keep_their_order(self, ada: Person) -> None:
        """Fifty messages sent without waiting are in the log as they were sent, and each is answered."""
        session = await ada.session(agent="ask")
        async with socket_of(ada, session) as socket:
            for number in range(50):
                text = f'{{"type": "message.send", "id": "m{number}", "content": "count to 1, {number}"}}'
                await socket.connection.send(text)
            async with asyncio.timeout(60):
                while len(socket.replies) < 50:
                    await socket.read()
            assert [reply["reply_to"] for reply in socket.replies] == [f"m{number}" for number in range(50)]
        said = [m["content"] for m in await ada.history(session) if m["role"] == "user"]

        assert said == [f"count to 1, {number}" for number in range(50)]

    async def test_each_command_needs_its_scope(self, running: Running, ada: Person) -> None:
        """A token that only reads may follow and ping, and nothing else."""
        session = await ada.session()
        reader = await running.person(scope="api:read")
        commands: list[tuple[str, dict[str, Any]]] = [
            ("message.send", {"content": "x"}),
            ("tool_result", {"call_id": "x"}),
            ("approval.decide", {"approval_id": "x", "decision": "approve"}),
            ("agent.switch", {"target_agent": "ask"}),
            ("turn.cancel", {}),
        ]
        async with socket_of(reader, session) as socket:
            assert (await socket.ask("ping"))["ok"]
            for kind, members in commands:
                error = (await socket.ask(kind, **members))["error"]
                assert (error["status"], error["code"]) == (403, "insufficient_scope"), kind


#: Frames that are refused, and the member that the error names.
BAD_FRAMES: list[tuple[str | bytes, str | None, str | None]] = [
    ("", None, None),
    ("x", None, None),
    ("[]", None, None),
    ("5", None, None),
    ('{"id": "a"}', "a", "type"),
    ('{"id": "a", "type": "nothing"}', "a", "type"),
    ('{"id": "a", "type": 5}', "a", "type"),
    ('{"id": "a", "type": "\\ud800"}', "a", "type"),
    ('{"type": "ping"}', None, "id"),
    ('{"type": "ping", "id": 5}', None, "id"),
    ('{"type": "ping", "id": ""}', None, "id"),
    ('{"type": "ping", "id": "\\ud800"}', None, "id"),
    ('{"type": "ping", "id": "' + "x" * 129 + '"}', None, "id"),
    ('{"type": "message.send", "id": "a"}', "a", "content"),
    ('{"type": "message.send", "id": "a", "content": 5}', "a", "content"),
    ('{"type": "message.send", "id": "a", "content": "\\u0000"}', "a", "content"),
    ('{"type": "message.send", "id": "a", "content": "\\ud800"}', "a", "content"),
    ('{"type": "message.send", "id": "a", "content": "  "}', "a", "content"),
    ('{"type": "tool_result", "id": "a"}', "a", "call_id"),
    ('{"type": "tool_result", "id": "a", "call_id": "x", "error": 5}', "a", "error"),
    ('{"type": "approval.decide", "id": "a", "approval_id": "x", "decision": "maybe"}', "a", "decision"),
    ('{"type": "approval.decide", "id": "a", "approval_id": "x", "decision": "edit"}', "a", "modified_arguments"),
    ('{"type": "agent.switch", "id": "a", "target_agent": "nobody"}', "a", "target_agent"),
    ('{"type": "agent.switch", "id": "a", "target_agent": ["ask"]}', "a", "target_agent"),
    ('{"type": "ping", "id": "a", "x": ' + "[" * 20_000 + "]" * 20_000 + "}", None, None),
    (b"\xff\xfe", None, None),
]


class TestBadInput:
    async def test_a_bad_frame_is_answered_and_the_connection_lives(self, ada: Person) -> None:
        """Every error names the member and carries the id where there is one; the next command works."""
        session = await ada.session()
        async with socket_of(ada, session) as socket:
            for raw, frame_id, field in BAD_FRAMES:
                reply = await socket.ask_raw(raw, frame_id)
                error = reply["error"]
                assert not reply["ok"]
                assert (error["status"], error["code"], error.get("field")) == (400, "invalid_request", field), raw[:80]
                assert 5 < len(error["detail"]) < 1000
                assert "msgspec" not in error["detail"]
                assert (await socket.ask("ping"))["ok"]
            unknown = (await socket.ask("tool_result", call_id="nothing"))["error"]

        assert (unknown["status"], unknown["code"], unknown["field"]) == (404, "unknown_call", "call_id")

    async def test_what_is_too_large(self, start: Callable[..., Awaitable[Running]]) -> None:
        """A message over its limit is refused with 413 and the socket lives; a frame that no command needs ends it."""
        running = await start(max_message_bytes=1000, max_result_bytes=2000, max_image_bytes=1024)
        ada = await running.person()
        session = await ada.session()
        async with socket_of(ada, session) as socket:
            error = (await socket.ask("message.send", content="x" * 1001))["error"]
            assert (error["status"], error["code"], error["field"]) == (413, "content_too_large", "content")
            assert (await socket.ask("ping"))["ok"]
            await socket.connection.send("x" * (1000 * 6 + 8 * 1368 + 64 * 1024 + 1))
            code, _ = await socket.closed()

        assert code == 1009

    async def test_a_handshake_that_is_refused_says_why(self, running: Running, ada: Person) -> None:
        """Bad cursor 400, nobody 401, somebody else's or no session 404: a problem document, as over HTTP."""
        session = await ada.session()
        bob = await running.person("bob")
        blind = await running.person(scope="api:write")
        nobody = await running.person("carl")
        nobody.http.headers["Authorization"] = "Bearer nonsense"
        cases: list[tuple[Person, str, dict[str, Any], int, str]] = [
            (ada, session, {"after": "-1"}, 400, "invalid_request"),
            (ada, session, {"after": "x"}, 400, "invalid_request"),
            (nobody, session, {}, 401, "invalid_token"),
            (blind, session, {}, 403, "insufficient_scope"),
            (bob, session, {}, 404, "unknown_session"),
            (ada, "nothing", {}, 404, "unknown_session"),
        ]
        for person, name, params, status, code in cases:
            with pytest.raises(InvalidStatus) as refused:
                async with socket_of(person, name, **params):
                    pass
            response = refused.value.response
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert f'"code":"{code}"'.encode() in (response.body or b"")
            if status in {401, 403}:
                assert response.headers["www-authenticate"].startswith("Bearer")
