"""Conversations in the reference's frames, over its WebSocket; every transcript stays one that models take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer
from tests.reference.clients import final, is_call, is_final, talking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

WRITE: dict[str, Any] = {"path": "a.py", "content": "x"}


def tool_results(model: Upstream) -> dict[str, str]:
    """Return what the model was told of each call in its newest request."""
    return {m["tool_call_id"]: m["content"] for m in model.bodies[-1]["messages"] if m["role"] == "tool"}


async def begin(model: Upstream, talker: Person, *calls: dict[str, Any], text: str | None = None) -> str:
    """Let the model ask for tools, and then say that it is done; return a session with the coder."""
    model.play(calls_answer(*calls, text=text))
    model.play(text_answer("Done", "."))
    return await talker.session(agent="coder")


async def test_a_plain_answer_is_one_final_message(model: Upstream, talker: Person) -> None:
    """A session that there is not is made; the answer is one final chunk, whole, with its text as token too."""
    model.play(text_answer("Grüß", " dich", "."))
    async with talking(talker, "never-seen-before") as talk:
        await talk.say("explain yourself")
        chunks = await talk.until(is_final)

    facts = {"from_agent": "orchestrator", "to_agent": "ask", "reason": chunks[0]["reason"], "confidence": "low"}
    assert [chunk["type"] for chunk in chunks] == ["agent_switched", "assistant_message"]
    assert chunks[0]["content"] == "Switched to ask agent"
    assert chunks[0]["metadata"] == facts == {name: chunks[0][name] for name in facts}
    assert chunks[0]["is_final"] is False
    assert chunks[1] == final("Grüß dich.")
    assert (await talker.http.get("/api/v1/sessions/never-seen-before")).json()["message_count"] == 2


async def test_tokens_are_sent_where_they_are_asked_for(model: Upstream, talker: Person) -> None:
    """With ``?stream=tokens`` the tokens make the text, and the final message has it whole with nothing to add."""
    model.play(text_answer("One", " two", " three"))
    session = await talker.session(agent="ask")
    async with talking(talker, session, prefix="", query="?stream=tokens") as talk:
        await talk.send("user_message", content="count", role=None, extra={"ignored": 1})
        chunks = await talk.until(is_final)

    assert len(chunks) > 1
    assert "".join(chunk["token"] for chunk in chunks) == "One two three" == chunks[-1]["content"]
    assert [chunk["content"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_a_tool_call_and_its_result(model: Upstream, talker: Person) -> None:
    """An allowed call needs no approval; text beside it comes first and is not final (W24)."""
    session = await begin(model, talker, call("read_file", {"path": "a"}, id="c1"), text="Let me look.")
    async with talking(talker, session) as talk:
        await talk.say("look")
        said, asked = await talk.until(is_call)
        await talk.send("tool_result", call_id="c1", tool_name="read_file", result={"success": True}, error=None)
        ended = await talk.until(is_final)

    assert said == final("Let me look.") | {"is_final": False}
    assert asked == final("") | {
        "type": "tool_call",
        "content": None,
        "token": None,
        "call_id": "c1",
        "tool_name": "read_file",
        "arguments": {"path": "a"},
    }
    assert ended == [final("Done.")]
    assert tool_results(model) == {"c1": '{"success":true}'}


async def test_a_result_approves_what_was_asked(model: Upstream, talker: Person) -> None:
    """A result of a call that waits for a person is their decision and the result, in one transaction."""
    session = await begin(model, talker, call("write_file", WRITE, id="c1"))
    async with talking(talker, session) as talk:
        await talk.say("write")
        asked = (await talk.until(is_call))[-1]
        pending = (await talker.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()
        await talk.send("tool_result", call_id="c1", result="written")
        ended = await talk.until(is_final)
    events = await talker.until(session, "turn.completed")
    kinds = [event.type for event in events]

    assert (asked["requires_approval"], asked["arguments"]) == (True, WRITE)
    assert [item["call_id"] for item in pending["pending_approvals"]] == ["c1"]
    assert ended == [final("Done.")]
    at = kinds.index("approval.resolved")
    assert kinds[at : at + 2] == ["approval.resolved", "tool.completed"]
    assert "tool.requested" not in kinds  # nobody else was to run it
    assert (events[at].data["decision"], events[at].data["decided_by"]) == ("approve", talker.id)
    assert tool_results(model) == {"c1": "written"}


async def test_a_rejection_by_an_error_and_a_failure_by_another(model: Upstream, talker: Person) -> None:
    """``User rejected: …`` is a no with its feedback; any other error is a yes to what failed then."""
    session = await begin(
        model, talker, call("write_file", WRITE, id="no"), call("execute_command", {"command": "ls"}, id="broken")
    )
    async with talking(talker, session) as talk:
        await talk.say("go")
        await talk.until(is_call)
        await talk.until(is_call)
        await talk.send("tool_result", call_id="no", result=None, error="User rejected: not this file")
        await talk.send("tool_result", call_id="broken", result=None, error="exit status 2")
        ended = await talk.until(is_final)
    events = await talker.until(session, "turn.completed")
    decided = {e.data["call_id"]: e.data for e in events if e.type == "approval.resolved"}
    done = {e.data["call_id"]: e.data["status"] for e in events if e.type == "tool.completed"}

    assert ended == [final("Done.")]
    assert (decided["no"]["decision"], decided["no"]["feedback"]) == ("reject", "not this file")
    assert decided["broken"]["decision"] == "approve"
    assert done == {"no": "rejected", "broken": "failed"}
    assert "not this file" in tool_results(model)["no"]
    assert "exit status 2" in tool_results(model)["broken"]


async def test_hitl_decisions(model: Upstream, talker: Person) -> None:
    """Approved and edited calls are handed out as decided, once; a rejected one never is (W1)."""
    session = await begin(
        model,
        talker,
        call("write_file", WRITE, id="yes"),
        call("write_file", WRITE, id="change"),
        call("write_file", WRITE, id="no"),
    )
    changed = {"path": "b.py", "content": "y"}
    async with talking(talker, session) as talk:
        await talk.say("go")
        for _ in range(3):
            await talk.until(is_call)
        await talk.send("hitl_decision", call_id="yes", decision="approve")
        handed_out = await talk.until(is_call)
        await talk.send("hitl_decision", call_id="change", decision="edit", modified_arguments=changed)
        handed_out += await talk.until(is_call)
        await talk.send("hitl_decision", call_id="no", decision="reject", feedback="never", modified_arguments=None)
        await talk.send("hitl_decision", call_id="no", decision="approve")
        handed_out += await talk.until(is_final)
        await talk.send("tool_result", call_id="yes", result=1)
        await talk.send("tool_result", call_id="change", result=2)
        ended = await talk.until(is_final)

    assert [(c["call_id"], c["arguments"], c["requires_approval"]) for c in handed_out[:2]] == [
        ("yes", WRITE, False),
        ("change", changed, False),
    ]
    assert handed_out[2]["error"] == "No pending approval found for request_id=no"
    assert len(handed_out) == 3
    assert ended == [final("Done.")]
    results = tool_results(model)
    assert set(results) == {"yes", "change", "no"}
    assert results["yes"] == "1"
    assert "never" in results["no"]
    assert "b.py" in results["change"]


async def test_switch_agent(model: Upstream, talker: Person) -> None:
    """The sender hears of it in one final chunk, also where nothing was to be done."""
    model.play(text_answer("I debug."))
    session = await talker.session(agent="ask")
    async with talking(talker, session) as talk:
        await talk.send("switch_agent", agent_type="debug", content="", reason="a crash")
        first = await talk.read()
        await talk.send("switch_agent", agent_type="debug", content=None, reason=None)
        again = await talk.read()
        await talk.say("why")
        ended = await talk.until(is_final)
        await talk.send("switch_agent", agent_type="nobody", content="")
        refused = await talk.read()

    assert first["metadata"] == {
        "from_agent": "ask",
        "to_agent": "debug",
        "reason": "a crash",
        "confidence": "high",
    }
    assert (first["is_final"], again["is_final"], again["to_agent"]) == (True, True, "debug")
    assert ended == [final("I debug.")]
    assert refused["type"] == "error"
    assert "must be one of" in refused["error"]


async def test_reconnecting_with_a_pending_approval(model: Upstream, talker: Person) -> None:
    """Who comes back is asked again, once, and may answer; who never left is not asked twice."""
    session = await begin(
        model, talker, call("write_file", WRITE, id="ask"), call("read_file", {"path": "a"}, id="look")
    )
    async with talking(talker, session) as talk:
        await talk.say("go")
        await talk.until(is_call)
        await talk.until(is_call)
    async with talking(talker, session) as back:
        first, second = await back.read(), await back.read()
        await back.send("tool_result", call_id="look", result="x")
        await back.send("tool_result", call_id="ask", result="y")
        ended = await back.until(is_final)

    assert [(c["call_id"], c["requires_approval"]) for c in (first, second)] == [("ask", True), ("look", False)]
    assert ended == [final("Done.")]


async def test_a_limit_asks_like_a_tool(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """A turn at its limit asks whether it goes on; a result lets it, and an error of any kind ends it."""
    talker = await (await start(**with_model, max_steps=1)).person()
    for ends in (False, True):
        session = await begin(model, talker, call("read_file", {"path": "a"}, id="look"))
        async with talking(talker, session) as talk:
            await talk.say("go")
            await talk.until(is_call)
            await talk.send("tool_result", call_id="look", result="x")
            (asked,) = await talk.until(is_call)
            await talk.send("tool_result", call_id=asked["call_id"], error="Unknown tool" if ends else None)
            (last,) = await talk.until(is_final)

        assert (asked["tool_name"], asked["requires_approval"]) == ("continue_turn", True)
        assert last["type"] == ("error" if ends else "assistant_message")
