"""Tools that no machine runs: the plan, questions to the person, the end of a task, and hand-overs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from codelab.agent.turns.server_tools import MAX_HAND_OVERS
from tests.agent.providers.upstream import text_answer
from tests.agent.test_steer import steer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person

ASK = call("ask_followup_question", {"question": "Which?", "options": ["A", "B"]}, id="ask")
READ = call("read_file", {"path": "a"}, id="read")
COMPLETE = call("attempt_completion", {"result": "It is done."}, id="complete")
PNG = {
    "media_type": "image/png",
    "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg==",
}


def plan(*items: tuple[str, str]) -> dict[str, Any]:
    """Make a call that shows a plan."""
    return call("update_plan", {"items": [{"text": text, "status": status} for text, status in items]})


async def about(person: Person, session: str) -> dict[str, Any]:
    """Read a session."""
    found: dict[str, Any] = (await person.http.get(f"/api/v1/sessions/{session}")).json()
    return found


def result(body: dict[str, Any], call_id: str) -> str:
    """Return what a model is told of a call."""
    return next(str(m["content"]) for m in body["messages"] if m.get("tool_call_id") == call_id)


async def asking(model: Upstream, person: Person, *calls: dict[str, Any]) -> tuple[str, str]:
    """Make a session whose turn waits for the answer to a question; return both ids."""
    session = await person.session(agent="coder")
    model.play(calls_answer(ASK, *calls))
    turn = (await person.say(session, "go"))["turn_id"]
    await person.until(session, "turn.waiting")
    return session, turn


async def test_a_plan_is_shown_and_kept(model: Upstream, talker: Person) -> None:
    """Each replaces the last; every client hears of it, none is asked to run it, and the session has it."""
    session = await talker.session(agent="coder")
    assert (await about(talker, session))["plan"] is None
    model.play(calls_answer(plan(("look", "in_progress"), ("change", "pending"))))
    model.play(calls_answer(plan(("look", "completed"), ("change", "in_progress"))))
    model.play(text_answer("Done."))
    await talker.say(session, "go")
    events = await talker.until(session, *END)
    items = [{"text": "look", "status": "completed"}, {"text": "change", "status": "in_progress"}]

    assert [e.data["items"][0]["status"] for e in events if e.type == "plan.updated"] == ["in_progress", "completed"]
    assert "tool.requested" not in types(events)
    assert (await about(talker, session))["plan"] == items
    assert (await talker.http.get("/api/v1/sessions")).json()["sessions"][0]["plan"] == items


class TestQuestion:
    async def test_the_next_message_answers_it(self, model: Upstream, talker: Person) -> None:
        """It is the result of the call, in the same turn, beside the result of another call that comes later."""
        session, turn = await asking(model, talker, READ)
        accepted = await talker.say(session, "B, please")
        assert accepted["turn_id"] == turn
        model.play(text_answer("Done."))
        await talker.answer(session, "read", result="text")
        await talker.until(session, "turn.completed", turn=turn)
        told = next(m for m in await talker.history(session) if m["id"] == accepted["message_id"])

        assert result(model.bodies[1], "ask") == "B, please"
        assert (told["role"], told["name"]) == ("tool", "ask_followup_question")
        assert [m["role"] for m in model.bodies[1]["messages"]] == ["system", "user", "assistant", "tool", "tool"]

    async def test_a_client_answers_it(self, model: Upstream, talker: Person) -> None:
        """As any call: it is claimed, and its result is sent; a message that comes after that is one of its own."""
        session, turn = await asking(model, talker)
        model.play(text_answer("Done."))
        assert (await talker.answer(session, "ask", result="A")).status_code == 200
        await talker.until(session, "turn.completed", turn=turn)
        model.play(text_answer("Well."))

        assert (await talker.say(session, "B"))["turn_id"] != turn
        assert result(model.bodies[1], "ask") == "A"

    async def test_what_is_no_answer(self, model: Upstream, talker: Person) -> None:
        """A message with an image, or one that must not meet a turn, is refused, and the question stays."""
        session, _ = await asking(model, talker)
        url = f"/api/v1/sessions/{session}/messages"
        image = await talker.http.post(url, json={"content": "see", "images": [PNG]})
        busy = await talker.http.post(url, json={"content": "B", "delivery": "reject"})

        assert (image.status_code, image.json()["field"]) == (400, "images")
        assert busy.status_code == 409
        assert (await about(talker, session))["active_turn"]["state"] == "waiting"

    async def test_it_outlives_the_process(self, model: Upstream, serve: Serve, with_model: dict[str, Any]) -> None:
        """The answer to a server that was started anew goes to the question of the one before."""
        async with serve(**with_model) as running:
            session, turn = await asking(model, await running.person("ada"))
        async with serve(**with_model) as running:
            ada = await running.person("ada")
            model.play(text_answer("Done."))
            assert (await ada.say(session, "B"))["turn_id"] == turn
            await ada.until(session, "turn.completed", turn=turn)

        assert result(model.bodies[1], "ask") == "B"


class TestCompletion:
    async def finish(self, model: Upstream, person: Person, session: str) -> list[Event]:
        """Have the task of a session called complete."""
        model.play(calls_answer(COMPLETE, text="Checked."))
        turn = (await person.say(session, "go"))["turn_id"]
        return await person.until(session, "turn.completed", turn=turn)

    async def test_it_ends_the_turn_with_its_result(self, model: Upstream, talker: Person) -> None:
        """Without another model call; the result is the last message, and the session is with the orchestrator."""
        session = await talker.session(agent="coder")
        events = await self.finish(model, talker, session)
        final, ended = last(events, "message.completed"), last(events, "turn.completed")
        switched = last(events, "agent.switched")
        model.play(text_answer("Again."))
        turn = (await talker.say(session, "explain it"))["turn_id"]
        routed = await talker.until(session, "turn.completed", turn=turn)

        assert (final["content"], final["agent"]) == ("It is done.", "coder")
        assert ended["message_id"] == final["message_id"]
        assert (switched["to_agent"], switched["by"], switched["reason"]) == (
            "orchestrator",
            "router",
            "The task is complete",
        )
        assert "tool.requested" not in types(events)
        assert last(routed, "agent.switched")["to_agent"] == "ask"
        assert len(model.bodies) == 2

    async def test_not_beside_other_calls(self, model: Upstream, talker: Person) -> None:
        """The model is told to wait for what it asked for."""
        session = await talker.session(agent="coder")
        model.play(calls_answer(COMPLETE, READ))
        model.play(text_answer("Not yet."))
        turn = (await talker.say(session, "go"))["turn_id"]
        await talker.until(session, "turn.waiting")
        await talker.answer(session, "read", result="text")
        await talker.until(session, "turn.completed", turn=turn)

        assert "Call attempt_completion alone" in result(model.bodies[1], "complete")
        assert (await about(talker, session))["current_agent"] == "coder"

    async def test_a_message_that_joins_goes_first(self, model: Upstream, talker: Person) -> None:
        """One that steers is heard before the task ends, and its answer ends the turn."""
        session, gate = await talker.session(agent="coder"), asyncio.Event()
        model.play(text_of("Working."), gate, calls_answer(COMPLETE))
        model.play(text_answer("Minded."))
        await talker.say(session, "go")
        await talker.until(session, "message.delta")
        await steer(talker, session, "and mind the time")
        gate.set()
        events = await talker.until(session, *END)

        assert result(model.bodies[1], "complete") == "The task is marked as complete."
        assert model.bodies[1]["messages"][-1]["content"] == "and mind the time"
        assert last(events, "message.completed")["content"] == "Minded."
        assert "agent.switched" not in types(events)

    async def test_a_policy_may_ask(
        self, model: Upstream, serve: Serve, with_model: dict[str, Any], tmp_path: Path
    ) -> None:
        """What codelab does itself waits for a person where the operator wants that, and is done after the yes."""
        rules = "\n".join(
            f"  - {{tool: {tool}, effect: ask, reason: careful}}" for tool in ("attempt_completion", "switch_mode")
        )
        (tmp_path / "policy.yaml").write_text(f"rules:\n{rules}\n")
        async with serve(**with_model, policy_file=tmp_path / "policy.yaml") as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            model.play(calls_answer(call("switch_mode", {"mode": "ask"})))
            model.play(calls_answer(COMPLETE))
            await ada.say(session, "go")
            for number in (1, 2):
                waiting = [e async for e in _waits(ada, session, number)]
                approval = last(waiting, "approval.requested")["approval_id"]
                assert (await ada.decide(session, approval, "approve")).status_code == 200
            events = await ada.until(session, *END)

        assert [e.data["to_agent"] for e in events if e.type == "agent.switched"] == ["ask", "orchestrator"]
        assert last(events, "message.completed")["content"] == "It is done."
        assert "tool.requested" not in types(events)


async def _waits(person: Person, session: str, number: int) -> Any:
    """Follow a session until it waits for the so many-th time."""
    seen = 0

    def waits(event: Event) -> bool:
        nonlocal seen
        seen += event.type == "turn.waiting"
        return seen == number

    for event in await person.events(session, waits):
        yield event


async def test_agents_do_not_hand_over_for_ever(model: Upstream, talker: Person) -> None:
    """After so many hand-overs in a turn the model is told to do the work."""
    session = await talker.session(agent="coder")
    for number in range(MAX_HAND_OVERS + 1):
        model.play(calls_answer(call("switch_mode", {"mode": ("debug", "ask")[number % 2]})))
    model.play(text_answer("I do it."))
    await talker.say(session, "go")
    events = await talker.until(session, *END)

    assert types(events).count("agent.switched") == MAX_HAND_OVERS
    assert f"handed over {MAX_HAND_OVERS} times" in last(events, "tool.completed")["error"]
    assert last(events, "turn.completed")
