"""Figures of what sessions have done: true, of the caller alone, and the same after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.providers.upstream import chunk, chunks_of, text_answer
from tests.agent.transcripts import END, call, calls_answer, last

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

USAGE = {"prompt_tokens": 100, "completion_tokens": 7}


async def play(model: Upstream, ada: Person) -> str:
    """Play a session with four model calls: tools, an answer, a failure, and a switch between them."""
    write = call("write_file", {"path": "a", "content": ""})
    asked = calls_answer(write | {"id": "yes"}, write | {"id": "no"}, call("read_file", {"path": "a"}, id="read"))
    model.play(asked)
    model.play(chunks_of(chunk("Done."), chunk(finish="stop"), chunk() | {"choices": [], "usage": USAGE}))
    session = await ada.session(agent="coder")
    await ada.say(session, "go")
    waiting = await ada.until(session, "turn.waiting")
    approvals = {e.data["call_id"]: e.data["approval_id"] for e in waiting if e.type == "approval.requested"}
    await ada.decide(session, approvals["yes"], "approve")
    await ada.decide(session, approvals["no"], "reject", feedback="not now")
    await ada.answer(session, "yes", result="ok")
    await ada.answer(session, "read", error="not there")
    await ada.until(session, "turn.completed")
    await ada.http.post(f"/api/v1/agents/{session}/switch", json={"target_agent": "debug", "reason": "why"})
    model.play(b"", status=500)
    await ada.say(session, "fail")
    await ada.until(session, "turn.failed")
    return session


async def get(person: Person, path: str, **params: Any) -> dict[str, Any]:
    """Read figures, which are the same with and without the prefix."""
    answer = await person.http.get(f"/api/v1/events/{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    bare = (await person.http.get(f"/events/{path}", params=params)).json()
    for each in (found, bare):
        each.pop("timestamp", None)
    assert bare == found
    return found


async def test_figures_are_true(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """Each figure is that of what was played; another person's are their own, and those of a session are hers alone."""
    running = await start(**with_model)
    ada, bob = await running.person(), await running.person("bob")
    session = await play(model, ada)
    await ada.session()
    mine = await get(ada, f"metrics/session/{session}")
    requests = mine.pop("requests")
    whole = await get(ada, "metrics")

    assert mine.pop("total_duration_ms") == sum(request["duration_ms"] for request in requests)
    assert mine.pop("average_duration_ms") >= 0
    assert mine == {
        "session_id": session,
        "total_requests": 3,
        "successful_requests": 2,
        "failed_requests": 1,
        "total_prompt_tokens": 100,
        "total_completion_tokens": 7,
        "total_tokens": 107,
        "average_tokens_per_request": 107 / 3,
        "requests_with_tools": 1,
    }
    assert [(r["success"], r["has_tool_calls"], r["model"]) for r in requests] == [
        (True, True, "test-model"),
        (True, False, "test-model"),
        (False, False, None),
    ]
    assert [(r["prompt_tokens"], r["completion_tokens"], r["total_tokens"]) for r in requests] == [
        (0, 0, 0),
        (100, 7, 107),
        (0, 0, 0),
    ]
    assert [bool(request["error"]) for request in requests] == [False, False, True]
    counted = whole["metrics"]
    assert counted["agent_switches"] == {"coder_to_debug": 1}
    assert {name: each["count"] for name, each in counted["agent_processing"].items()} == {"coder": 2}
    assert counted["hitl_decisions"] == {"approve": 1, "reject": 1}
    assert [sum(each.values()) for each in counted["errors"].values()] == [1]
    nothing = dict.fromkeys(("completed", "failed", "rejected", "denied", "cancelled", "requires_approval"), 0)
    assert counted["tool_executions"] == {
        "write_file": nothing | {"requested": 2, "completed": 1, "rejected": 1, "requires_approval": 2},
        "read_file": nothing | {"requested": 1, "failed": 1},
    }
    assert whole["computed"]["write_file_success_rate"] == 1.0
    assert whole["computed"]["read_file_success_rate"] == 0.0
    assert await get(ada, "metrics/sessions") == {"sessions": [session], "count": 1}
    assert (await get(ada, "stats"))["total_published"] == len(await ada.until(session, "turn.failed"))
    theirs = await get(bob, "metrics")
    assert not any(theirs["metrics"].values())
    assert (await get(bob, "stats"))["total_published"] == 0
    assert await get(bob, "metrics/sessions") == {"sessions": [], "count": 0}
    assert (await bob.http.get(f"/events/metrics/session/{session}")).status_code == 404


async def test_a_call_takes_its_time(model: Upstream, talker: Person) -> None:
    """The duration of a call is that from its request to its last word, the wait for the first included."""
    import asyncio

    release = asyncio.Event()
    model.play(release, text_answer("Late."))
    session = await talker.session(agent="ask")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await talker.say(session, "hello")
    loop.call_later(0.2, release.set)
    await talker.until(session, *END)
    most = (loop.time() - began) * 1000
    (request,) = (await get(talker, f"metrics/session/{session}"))["requests"]

    assert 0 < request["duration_ms"] <= most + 1


async def test_the_audit_log(model: Upstream, start: Callable[..., Awaitable[Running]], with_model: Any) -> None:
    """What happened is there in order, by filter and number, and nobody else's; a restart changes nothing."""
    running = await start(**with_model)
    ada, bob = await running.person(), await running.person("bob")
    session = await play(model, ada)
    listed = await get(ada, "audit-log")
    entries = listed["audit_log"]
    kinds = [entry["event_type"] for entry in entries]
    by_kind = {entry["event_type"]: entry for entry in entries}
    rejected = next(entry for entry in entries if entry.get("decision") == "reject")

    assert sorted(kinds) == sorted(
        ["tool_approval_required"] * 2
        + ["hitl_decision_made"] * 2
        + ["tool_execution_failed", "agent_switched", "agent_error"]
    )
    assert [entry["timestamp"] for entry in entries] == sorted(entry["timestamp"] for entry in entries)
    assert listed["filters"] == {"session_id": None, "event_type": None, "limit": 100}
    assert {entry["session_id"] for entry in entries} == {session}
    assert by_kind["tool_approval_required"]["arguments"] == {"path": "a", "content": ""}
    assert (rejected["feedback"], rejected["decided_by"]) == ("not now", ada.id)
    assert "not there" in by_kind["tool_execution_failed"]["error"]
    assert by_kind["agent_switched"]["to_agent"] == "debug"
    assert (
        by_kind["agent_error"]["error_message"] == last(await ada.until(session, "turn.failed"), "turn.failed")["error"]
    )
    one = await get(ada, "audit-log", event_type="agent_switched", session_id=session, limit=0)
    assert [entry["event_type"] for entry in one["audit_log"]] == ["agent_switched"]
    assert (await get(ada, "audit-log", limit=3))["audit_log"] == entries[-3:]
    for params in ({"event_type": "nothing"}, {"session_id": "nothing"}):
        assert (await get(ada, "audit-log", **params))["count"] == 0
    assert (await get(bob, "audit-log"))["count"] == (await get(bob, "audit-log", session_id=session))["count"] == 0
    await ada.http.delete(f"/api/v1/sessions/{session}")
    assert (await get(ada, "audit-log"))["count"] == 0
