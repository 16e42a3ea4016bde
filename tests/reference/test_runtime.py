"""The paths of the reference's runtime, without a prefix, in its shapes; and its stream of one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer
from tests.reference.clients import MEMBERS, final

if TYPE_CHECKING:
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running


async def stream(person: Person, body: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    """Send a message and return the chunks until the stream ends; it has ``data:`` lines alone."""
    answer = await person.http.post(f"/agent/message/stream{query}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    chunks: list[dict[str, Any]] = [msgspec.json.decode(block.removeprefix("data: ")) for block in blocks]
    assert all(list(chunk)[:10] == MEMBERS for chunk in chunks)
    return chunks


async def test_sessions_under_the_runtimes_paths(ada: Person) -> None:
    """They are made, found, listed, changed and deleted there; it is the same session as under ``/api/v1``."""
    made = await ada.http.post("/sessions", json={"session_id": "mine"})
    again = await ada.http.post("/sessions", json={"session_id": "mine"})
    empty = await ada.http.post("/sessions")
    changed = await ada.http.patch("/api/v1/sessions/mine", json={"title": "Renamed"})
    plain = (await ada.http.get("/sessions/mine")).json()["session"]
    whole = (await ada.http.get("/sessions/mine", params={"include_messages": "true"})).json()["session"]
    listed = (await ada.http.get("/sessions", params={"limit": 1, "offset": 1})).json()
    pending = (await ada.http.get("/sessions/mine/pending-approvals")).json()
    history = (await ada.http.get("/sessions/mine/history")).json()
    removed = await ada.http.delete("/api/v1/sessions/mine")
    gone = await ada.http.get("/sessions/mine")

    assert (made.status_code, again.status_code, empty.status_code) == (201, 409, 201)
    assert made.json()["id"] == made.json()["session_id"] == "mine"
    assert (made.json()["message_count"], made.json()["current_agent"]) == (0, "orchestrator")
    assert changed.json()["title"] == plain["title"] == "Renamed"
    assert (plain["messages"], whole["messages"]) == (None, [])
    assert set(plain) == {
        "id",
        "title",
        "description",
        "message_count",
        "messages",
        "last_activity",
        "is_active",
        "created_at",
        "duration_seconds",
    }
    assert [session["id"] for session in listed["sessions"]] == ["mine"]
    assert (listed["total"], listed["limit"], listed["offset"]) == (2, 1, 1)
    assert pending == {"session_id": "mine", "pending_approvals": [], "count": 0}
    assert (history["messages"], history["current_agent"], history["agent_history"]) == ([], "orchestrator", [])
    assert (removed.status_code, gone.status_code) == (204, 404)


async def test_agents_under_the_runtimes_paths(ada: Person) -> None:
    """The list, the current agent and the switch have the reference's shapes."""
    session = await ada.session()
    agents = (await ada.http.get("/agents")).json()
    body = {"target_agent": "ask", "reason": "why not", "confidence": "high"}
    switched = (await ada.http.post(f"/agents/{session}/switch", json=body)).json()["context"]
    current = (await ada.http.get(f"/agents/{session}/current")).json()["context"]

    assert [agent["type"] for agent in agents["agents"]][:5] == ["orchestrator", "coder", "architect", "debug", "ask"]
    assert set(agents["agents"][0]) == {"type", "name", "description", "allowed_tools", "has_file_restrictions"}
    assert (switched["current_agent"], switched["switch_count"], len(switched["switch_history"])) == ("ask", 1, 1)
    assert (current["current_agent"], current["switch_history"]) == ("ask", None)


async def test_a_conversation_over_the_stream(model: Upstream, talker: Person) -> None:
    """Each request streams until the turn ends or waits; nested and flat bodies, a session that is made."""
    write = call("write_file", {"path": "a", "content": ""}, id="write")
    model.play(calls_answer(call("read_file", {"path": "a"}, id="read"), write))
    model.play(text_answer("Do", "ne."))
    message = {"type": "user_message", "content": "fix it", "role": "user", "agent_type": "coder"}
    asked = await stream(talker, {"session_id": "new", "message": message})
    between = await stream(talker, {"session_id": "new", "type": "tool_result", "call_id": "read", "result": 1})
    body = {"session_id": "new", "message": {"type": "tool_result", "call_id": "write", "result": "ok"}}
    ended = await stream(talker, body, "?stream=tokens")
    repeated = await stream(talker, body)
    switched = await stream(talker, {"session_id": "new", "message": {"type": "switch_agent", "agent_type": "ask"}})
    unknown = await stream(talker, {"session_id": "new", "message": {"type": "tool_result", "call_id": "nothing"}})
    history = await talker.history("new")

    calls = {chunk["call_id"]: chunk["requires_approval"] for chunk in asked if chunk["type"] == "tool_call"}
    assert calls == {"read": False, "write": True}
    assert len(asked) == 2  # who names the agent of a new session is not told of a switch
    assert between == []
    assert "".join(chunk["token"] for chunk in ended) == "Done." == ended[-1]["content"]
    assert repeated == []
    assert [(chunk["to_agent"], chunk["is_final"]) for chunk in switched] == [("ask", True)]
    assert "no call" in unknown[0]["content"]
    assert [m["role"] for m in history] == ["user", "assistant", "tool", "tool", "assistant"]


async def test_a_decision_over_the_stream(model: Upstream, talker: Person) -> None:
    """An approved call is handed out in the answer to its decision; after a rejection the agent goes on there."""
    write = call("write_file", {"path": "a", "content": ""})
    model.play(calls_answer(write | {"id": "yes"}, write | {"id": "no"}))
    model.play(text_answer("Done."))
    session = await talker.session(agent="coder")
    await stream(talker, {"session_id": session, "message": {"type": "user_message", "content": "go"}})
    decision = {"type": "hitl_decision", "call_id": "yes", "decision": "approve"}
    approved = await stream(talker, {"session_id": session, "message": decision})
    await stream(talker, {"session_id": session, "message": {"type": "tool_result", "call_id": "yes"}})
    decision = {"type": "hitl_decision", "call_id": "no", "decision": "reject", "feedback": "no"}
    rejected = await stream(talker, {"session_id": session, "message": decision})

    assert [(chunk["call_id"], chunk["requires_approval"]) for chunk in approved] == [("yes", False)]
    assert rejected == [final("Done.")]


async def test_a_bad_request_is_refused_before_the_stream_begins(running: Running, ada: Person) -> None:
    """What is no message gets 400 and the reference's words; nobody gets 401, and nothing is made."""
    bad: list[tuple[Any, str]] = [
        ({"message": {"type": "user_message", "content": "x"}}, "session_id: is required"),
        ({"session_id": "s", "message": {"type": "nothing"}}, "Unknown message type: nothing"),
        ({"session_id": "s", "message": {"type": "tool_result"}}, "call_id is required for tool_result message"),
        ({"session_id": "a/b", "message": {"type": "user_message", "content": "x"}}, "cannot be the id of a session"),
        ({"session_id": "s", "type": "user_message", "agent_type": "x", "content": "x"}, "agent: must be one of"),
    ]
    for body, words in bad:
        answer = await ada.http.post("/agent/message/stream", json=body)
        assert answer.status_code == 400, body
        assert words in answer.json()["detail"]
    nobody = await running.http.post("/agent/message/stream", json=bad[0][0])
    reader = await running.person(scope="api:read approvals:decide")
    refused = await reader.http.post("/agent/message/stream", json={"session_id": "s", "message": {}})

    assert (nobody.status_code, refused.status_code) == (401, 403)
    assert (await ada.http.get("/sessions")).json()["total"] == 0
