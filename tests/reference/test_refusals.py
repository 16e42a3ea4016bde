"""What the reference's clients are refused, and how they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer
from tests.reference.clients import final, is_call, is_final, talking
from tests.reference.test_conversations import WRITE, begin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running


async def test_only_who_may_decide_decides(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """Without ``approvals:decide`` neither a result nor an error nor a decision changes what waits."""
    running = await start(**with_model)
    talker = await running.person()
    session = await begin(model, talker, call("write_file", WRITE, id="c1"))
    writer = await running.person(scope="api:read api:write")
    async with talking(writer, session) as talk:
        await talk.say("go")
        await talk.until(is_call)
        await talk.send("tool_result", call_id="c1", result="done")
        await talk.send("tool_result", call_id="c1", error="User rejected: no")
        await talk.send("hitl_decision", call_id="c1", decision="approve")
        refused = [await talk.read() for _ in range(3)]
    pending = (await talker.http.get(f"/sessions/{session}/pending-approvals")).json()

    assert all("approvals:decide" in chunk["error"] for chunk in refused)
    assert pending["count"] == 1


async def test_a_denied_call_never_appears(model: Upstream, talker: Person) -> None:
    """What the policy denies is answered to the model, and no client sees a call (W10)."""
    model.play(calls_answer(call("write_file", WRITE, id="c1"), call("nothing", {}, id="c2")))
    model.play(text_answer("I may not."))
    session = await talker.session(agent="ask")
    async with talking(talker, session) as talk:
        await talk.say("write it")
        assert await talk.until(is_final) == [final("I may not.")]


async def test_a_bad_message_is_answered_and_the_connection_lives(talker: Person, model: Upstream) -> None:
    """Each error has its words in ``content`` and ``error``; the next message works."""
    model.play(text_answer("Still here."))
    session = await talker.session(agent="ask")
    bad = {
        "x": "Invalid JSON message",
        "[]": "Invalid JSON message",
        "{}": "Unknown message type: None",
        '{"type": "nothing"}': "Unknown message type: nothing",
        '{"type": ["a"]}': "Unknown message type",
        '{"type": "user_message", "content": 5}': "Invalid user_message message",
        '{"type": "user_message", "content": "  "}': "content: must not be empty",
        '{"type": "user_message", "content": "\\u0000"}': "content: must not contain U+0000",
        '{"type": "tool_result"}': "call_id is required",
        '{"type": "tool_result", "call_id": "nothing"}': "no call",
        '{"type": "hitl_decision", "call_id": "x"}': "decision is required",
        '{"type": "hitl_decision", "call_id": "x", "decision": "maybe"}': "Invalid HITL decision: maybe",
        '{"type": "hitl_decision", "call_id": "x", "decision": "approve"}': "No pending approval found",
        '{"type": "switch_agent", "content": ""}': "agent_type is required",
    }
    async with talking(talker, session) as talk:
        for raw, words in bad.items():
            await talk.connection.send(raw)
            chunk = await talk.read()
            assert (chunk["type"], chunk["is_final"]) == ("error", True), raw
            assert words in chunk["error"], raw
            assert "msgspec" not in chunk["error"]
        await talk.say("hello")
        assert await talk.until(is_final) == [final("Still here.")]


async def test_a_failed_model_call_is_an_error(model: Upstream, talker: Person) -> None:
    """The client is told in one final chunk, without an internal address (W23); the session goes on."""
    model.play(b"", status=500)
    model.play(text_answer("Better."))
    session = await talker.session(agent="ask")
    async with talking(talker, session) as talk:
        await talk.say("hello")
        (failed,) = await talk.until(is_final)
        await talk.say("again")
        assert await talk.until(is_final) == [final("Better.")]

    assert failed["type"] == "error"
    assert model.url not in failed["error"]
