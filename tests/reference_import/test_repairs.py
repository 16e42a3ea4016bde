"""Transcripts that no model server would take (W9 to W13 of the reference), as they are afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from codelab.text import scrub
from tests.agent.providers.upstream import Upstream, run_upstream, text_answer
from tests.agent.transcripts import END, check_transcript
from tests.reference_import.reference import Talk, change, dump, import_reference, insert
from tests.support.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.reference_import import Outcome
    from codelab.settings import Settings
    from tests.reference_import.reference import Reference

WRITE = '{"path": "a.txt", "content": "x"}'


@pytest.fixture
async def model() -> AsyncIterator[Upstream]:
    """A model server whose every transcript was valid, or the test fails."""
    async with run_upstream() as upstream:
        yield upstream
    for body in upstream.bodies:
        check_transcript(body)


@pytest.fixture
def settings(settings_with_tables: Settings, model: Upstream) -> Settings:
    """An installation that talks to ``model``."""
    settings = settings_with_tables
    agent = replace(settings.agent, llm_proxy_url=model.url, llm_api_key="sk-test", llm_model="test-model")
    return replace(settings, agent=agent)


def repairs(outcome: Outcome) -> list[tuple[str, str]]:
    """Kind and first words of each repair of the sessions."""
    return [(note.kind, note.what) for note in outcome.agent.repairs]


async def go_on(settings: Settings, model: Upstream, session: str = "talk") -> tuple[list[tuple[str, str, str]], Any]:
    """Say one more thing; return the history before it, and the transcript that the model was sent."""
    async with serving(settings) as running:
        alice = await running.person("alice")
        history = [(m["role"], m["status"], m["content"]) for m in await alice.history(session)]
        info = (await alice.http.get(f"/api/v1/sessions/{session}")).json()
        assert info["active_turn"] is None
        events = await alice.events(session, lambda event: event.seq == info["last_seq"])
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert info["message_count"] == len(history)
        model.play(text_answer("well"))
        await alice.say(session, "go on")
        assert (await alice.until(session, *END, after=info["last_seq"]))[-1].type == "turn.completed"
        messages = model.bodies[-1]["messages"]
        assert messages[-1] == {"role": "user", "content": "go on"}
        return history, messages[1:-1]


async def test_w9_a_call_id_that_was_used_before(settings: Settings, model: Upstream, reference: Reference) -> None:
    """The second call of an id gets one of its own, and each keeps its own result."""
    talk = Talk(reference)
    talk.user("first")
    talk.call("call_0")
    talk.result("call_0", "one")
    talk.answer("done")
    talk.user("second")
    talk.call("call_0")
    talk.result("call_0", "two")
    talk.answer("done again")
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [kind for kind, _ in repairs(outcome)] == ["messages"]
    assert "'call_0' was used before" in repairs(outcome)[0][1]
    assert [content for _, _, content in history] == ["first", "", "one", "done", "second", "", "two", "done again"]
    pairs = [(m["tool_call_id"], m["content"]) for m in transcript if m["role"] == "tool"]
    assert [content for _, content in pairs] == ["one", "two"]
    assert pairs[0][0] == "call_0" != pairs[1][0]


async def test_w10_a_call_that_was_refused_after_it_was_stored(
    settings: Settings, model: Upstream, reference: Reference
) -> None:
    """A dangling call gets one result that says so; the pending approval that nobody can decide is cancelled."""
    talk = Talk(reference, agent="architect")
    talk.user("write code")
    talk.approval("call_1", {"path": "a.txt", "content": "x"})
    talk.call("call_1", "write_file", WRITE)
    talk.user("hello?")
    talk.answer("yes")
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [role for role, _, _ in history] == ["user", "assistant", "tool", "user", "assistant"]
    assert transcript[2]["content"] == "Error: The reference system recorded no result of this call."
    assert [kind for kind, _ in repairs(outcome)] == ["messages", "messages", "pending_approvals"]
    rows = await dump(settings)
    assert "'cancelled'" in repr(rows["agent.pending_approvals"])


async def test_a_pending_approval_that_the_gate_denies_is_closed(
    settings: Settings, model: Upstream, reference: Reference
) -> None:
    """The last call waits only when its agent may make it here: the architect may not write a program."""
    talk = Talk(reference, agent="architect")
    talk.user("write code")
    talk.approval("call_1", {"path": "a.txt", "content": "x"})
    talk.call("call_1", "write_file", WRITE)
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [role for role, _, _ in history] == ["user", "assistant", "tool"]
    assert "only on paths that match" in transcript[2]["content"]
    assert [kind for kind, _ in repairs(outcome)] == ["pending_approvals"]


@pytest.mark.parametrize("asked", [{"path": "b.txt", "content": "x"}, {}])
async def test_an_approval_of_something_else_is_closed(
    settings: Settings, model: Upstream, reference: Reference, asked: dict[str, str]
) -> None:
    """Nobody is asked about other arguments than those that would run."""
    talk = Talk(reference)
    talk.user("write it")
    talk.approval("call_1", asked)
    talk.call("call_1", "write_file", WRITE)
    await import_reference(settings, reference.urls)
    _, transcript = await go_on(settings, model)

    assert transcript[2]["content"] == "Error: The approval asks for something else than the call."


async def test_w11_a_message_during_an_open_call(settings: Settings, model: Upstream, reference: Reference) -> None:
    """A result that came after the next message follows its call; the message comes after it, with its answer."""
    talk = Talk(reference)
    talk.user("read it")
    talk.call("call_1")
    talk.user("are you there?")
    talk.answer("yes")
    talk.result("call_1", "late")
    talk.answer("now I have it")
    outcome = await import_reference(settings, reference.urls)
    history, _ = await go_on(settings, model)

    assert [content for _, _, content in history] == ["read it", "", "late", "are you there?", "yes", "now I have it"]
    assert [what.split(";")[1] for _, what in repairs(outcome)] == [
        " it follows the call's result now",
        " it follows its call now",
    ]


async def test_w11_results_that_answer_nothing(settings: Settings, model: Upstream, reference: Reference) -> None:
    """A result of an unknown call and a second one are kept for people; no model sees them again."""
    talk = Talk(reference)
    talk.user("read it")
    talk.call("call_1")
    talk.result("call_1", "first")
    talk.answer("good")
    talk.result("call_1", "second")
    talk.answer("again?")
    talk.result("call_never", "whose?")
    talk.result(None, "nobody's")
    talk.answer("hm")
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [(status, content) for role, status, content in history if role == "tool"] == [
        ("completed", "first"),
        ("interrupted", "second"),
        ("interrupted", "whose?"),
        ("interrupted", "nobody's"),
    ]
    assert [m["content"] for m in transcript if m["role"] == "tool"] == ["first"]
    assert len(outcome.agent.repairs) == 3


async def test_a_session_that_begins_with_a_result(settings: Settings, model: Upstream, reference: Reference) -> None:
    """The reference makes a session for a result of an unknown one; a message is put before it."""
    talk = Talk(reference)
    talk.result("call_1", "lost")
    talk.answer("what?")
    await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [role for role, _, _ in history] == ["user", "tool", "assistant"]
    assert [m["role"] for m in transcript] == ["user", "assistant"]


async def test_w12_a_switch_to_the_orchestrator(settings: Settings, model: Upstream, reference: Reference) -> None:
    """The turn that nobody answered has failed; the next message is routed from the orchestrator."""
    talk = Talk(reference, agent="orchestrator")
    talk.user("do something else")
    talk.call("call_sw", "switch_mode", '{"mode": "orchestrator"}')
    talk.result("call_sw", "Switched to orchestrator agent")
    talk.switch("orchestrator", "ask", "Task requires different agent capabilities")
    await import_reference(settings, reference.urls)
    history, _ = await go_on(settings, model)

    assert [role for role, _, _ in history] == ["user", "assistant", "tool"]
    assert "no_answer" in repr((await dump(settings))["agent.turns"])


async def test_w13_a_second_result_for_an_old_switch(settings: Settings, model: Upstream, reference: Reference) -> None:
    """A later routing that answered an old ``switch_mode`` once more leaves its first result alone."""
    talk = Talk(reference, agent="ask")
    talk.user("design it")
    talk.switch("architect", "orchestrator")
    talk.call("call_sw", "switch_mode", '{"mode": "coder", "reason": "needs code"}')
    talk.result("call_sw", "Switched to coder agent")
    talk.switch("coder", "architect", "needs code")
    talk.answer("done")
    talk.user("explain it")
    talk.result("call_sw", "Switched to ask agent")
    talk.switch("ask", "coder", "classified")
    talk.answer("so it is")
    await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert ("tool", "interrupted", "Switched to ask agent") in history
    assert [m["content"] for m in transcript if m["role"] == "tool"] == ["Switched to coder agent"]
    async with serving(settings) as running:
        alice = await running.person("alice")
        answer = await alice.http.get("/api/v1/agents/talk/current", params={"include_history": "true"})
        events = await alice.until("talk", "turn.completed", after=0)
    assert answer.json()["context"]["current_agent"] == "ask"
    assert [e.data["by"] for e in events if e.type == "agent.switched"] == ["router", "agent"]


@pytest.mark.parametrize("stored", ["{broken", "[1]", '"text"', "nul", '{"a": 1e999}'])
async def test_arguments_that_are_no_object(
    settings: Settings, model: Upstream, reference: Reference, stored: str
) -> None:
    """Arguments that servers refuse become an empty object, and the repair is listed."""
    talk = Talk(reference)
    talk.user("read it")
    talk.call("call_1", "read_file", stored)
    talk.result("call_1", "Error: no path")
    talk.answer("sorry")
    outcome = await import_reference(settings, reference.urls)
    _, transcript = await go_on(settings, model)

    assert transcript[1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert ["no JSON object" in what for _, what in repairs(outcome)] == [True]


@pytest.mark.parametrize("stored", ["{broken", "{}", '[{"id": "x"}]', '[null, {"function": {"name": 5}}]', "[[]]"])
async def test_tool_calls_that_cannot_be_read(
    settings: Settings, model: Upstream, reference: Reference, stored: str
) -> None:
    """A column that holds no list of calls is an answer without calls; its result belongs to nothing."""
    talk = Talk(reference)
    talk.user("read it")
    talk.answer("text", tool_calls=stored)
    talk.result("x", "what")
    talk.answer("sorry")
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [role for role, _, _ in history] == ["user", "assistant", "tool", "assistant"]
    assert [m["role"] for m in transcript] == ["user", "assistant", "assistant"]
    assert len(outcome.agent.repairs) >= 2


async def test_content_that_is_null(settings: Settings, model: Upstream, reference: Reference) -> None:
    """NULL where text belongs becomes text that a model takes; beside a call it is the reference's rule."""
    talk = Talk(reference)
    talk.user(None)
    talk.call("call_1")
    talk.result("call_1", None)
    talk.answer(None)
    talk.user("   ")
    outcome = await import_reference(settings, reference.urls)
    history, transcript = await go_on(settings, model)

    assert [content for _, _, content in history] == ["(empty)", "", "", "", "(empty)"]
    assert all(m["content"] for m in transcript if m["role"] == "user")
    assert len(outcome.agent.repairs) == 4


async def test_unanswered_turns_do_not_run_by_themselves(
    settings: Settings, model: Upstream, reference: Reference
) -> None:
    """A message that the reference never answered ends as failed: the start of our server calls no model."""
    talk = Talk(reference)
    talk.user("hello?")
    other = Talk(reference, "other")
    other.user("read it")
    other.call("call_1")
    other.result("call_1", "text")
    await import_reference(settings, reference.urls)
    await go_on(settings, model)
    await go_on(settings, model, "other")

    assert len(model.bodies) == 2
    states = [row for row in (await dump(settings))["agent.turns"] if "no_answer" in row]
    assert len(states) == 2


HOSTILE = "a\x00b \u202e e\u0301 \U0001f642 </script> '; DROP TABLE sessions; -- \r\n\t" + "x" * 3000


async def test_hostile_text(settings: Settings, model: Upstream, reference: Reference) -> None:
    """Any text comes through; what no database holds becomes U+FFFD on both, and ids that no URL has change."""
    session = "имя/ Żółw\x00"
    talk = Talk(reference, session, title=HOSTILE, description=HOSTILE)
    talk.user(HOSTILE)
    talk.answer(None, {"id": "x" * 300, "function": {"name": HOSTILE, "arguments": '{"p": "\\ud800\\u0000"}'}})
    talk.result("x" * 300, HOSTILE)
    talk.answer(HOSTILE.encode(), metadata_json="[1]")
    talk.user(12345)
    change(reference.agent, "UPDATE messages SET content = CAST(X'ff61' AS TEXT) WHERE content = '12345'")
    talk.switch(HOSTILE, "ask", HOSTILE)
    insert(
        reference.auth,
        "audit_logs",
        id="1",
        user_id="gone",
        client_id=HOSTILE,
        event_type=HOSTILE,
        event_data='{"error": "\\u0000", "user_id": {"a": ["\\ud800"]}}',
        user_agent=HOSTILE,
        success=0,
        error_message=HOSTILE,
        created_at="2026-11-01 00:00:00",
    )
    outcome = await import_reference(settings, reference.urls)
    (renamed,) = [note for note in outcome.agent.repairs if note.kind == "sessions"]
    new_id = renamed.what.rsplit("it is ")[-1].removesuffix(" now")
    history, _ = await go_on(settings, model, new_id)

    text = scrub(HOSTILE)
    assert [content for role, _, content in history if role != "assistant"] == [text, text, "\ufffda"]
    assert history[3] == ("assistant", "completed", text)
    again = await import_reference(settings, reference.urls)
    assert again.agent.counts["sessions"].already_there == 1
    assert again.auth.counts["audit_logs"].already_there == 1


async def test_rows_that_belong_to_nothing(settings: Settings, reference: Reference) -> None:
    """SQLite never checked the reference's foreign keys: what hangs in the air is counted and left out."""
    talk = Talk(reference)
    talk.user("hello")
    talk.answer("hi")
    talk.approval("call_none", {})
    talk.approval("plan_1", {}, request_type="plan")
    change(reference.agent, "UPDATE messages SET session_db_id = 'gone' WHERE role = 'assistant'")
    insert(
        reference.agent,
        "agent_switches",
        id="s",
        context_db_id="gone",
        to_agent="ask",
        switched_at="2026-11-01 00:00:00",
    )
    outcome = await import_reference(settings, reference.urls)

    found = {kind: (c.read, c.imported, c.skipped) for kind, c in outcome.agent.counts.items()}
    assert found["messages"] == (2, 1, 1)
    assert found["agent_switches"] == (1, 0, 1)
    assert found["pending_approvals"] == (2, 0, 2)


async def test_agents_that_are_not_known_here(settings: Settings, model: Upstream, reference: Reference) -> None:
    """``universal`` is the coder, another stranger the orchestrator; the session goes on."""
    for name, agent in (("one", "universal"), ("two", "poet")):
        talk = Talk(reference, name, agent=agent)
        talk.user("hello")
        talk.answer("hi")
    await import_reference(settings, reference.urls)
    await go_on(settings, model, "one")
    await go_on(settings, model, "two")
    rows = repr((await dump(settings))["agent.agent_contexts"])

    assert "universal" not in rows
    assert "poet" not in rows


async def test_messages_of_one_instant_keep_the_order_in_which_they_were_written(
    settings: Settings, model: Upstream, reference: Reference
) -> None:
    """Equal times are ordered by the place of the row; an unreadable time is that of the row before."""
    talk = Talk(reference)
    words = [f"word {number}" for number in range(12)]
    for word in words:
        talk.user(word)
    change(reference.agent, "UPDATE messages SET timestamp = '2026-11-01 12:00:30.000000'")
    change(reference.agent, "UPDATE messages SET timestamp = 'never' WHERE content = 'word 5'")
    await import_reference(settings, reference.urls)
    history, _ = await go_on(settings, model)

    assert [content for _, _, content in history] == words
