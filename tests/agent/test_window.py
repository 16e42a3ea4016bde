"""What a model is sent of long sessions and long outputs: always valid, always within its window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from codelab.agent.repository import messages
from codelab.agent.repository.messages import messages as messages_table
from codelab.agent.repository.messages import turns as turns_table
from codelab.agent.turns.transcript import STEPS_CUT, TURNS_CUT
from codelab.agent.turns.window import cut_output
from codelab.db import new_id, now
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Running

TURNS, EACH = 10_000, 10
SMALL = {"llm_context_tokens": 20_000, "llm_max_output_tokens": 2_000}


async def test_a_hundred_thousand_messages_are_not_read(
    model: Upstream,
    start: Callable[..., Awaitable[Running]],
    with_model: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn reads as many rows as fit the window, not the session; the cut is between turns and leaves a mark."""
    running = await start(**with_model | SMALL)
    talker = await running.person()
    session = await talker.session(agent="ask")
    await _add_messages(running)
    read = 0
    list_before = messages.list_before

    async def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal read
        page = await list_before(*arguments, **more)
        read += len(page)
        return page

    monkeypatch.setattr(messages, "list_before", counted)
    model.play(text_answer("The last."))
    accepted = await talker.say(session, "the last")
    events = await talker.until(session, *END, after=accepted["seq"] - 1)
    sent = [m["content"] for m in model.bodies[0]["messages"][1:]]
    kept = len(sent) - 2

    assert events[-1].type == "turn.completed"
    assert (sent[0], sent[-1]) == (TURNS_CUT, "the last")
    assert 0 < kept <= read < 200
    assert kept % EACH == 0
    assert [content.split()[0] for content in sent[1:-1]] == [str(n) for n in range(TURNS * EACH)][-kept:]
    assert sum(len(content) for content in sent) < 18_000 * 3


async def test_a_long_turn_keeps_its_question_and_its_latest_steps(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """Steps are left out whole, so each call that is sent has its result; earlier turns go first."""
    talker = await (await start(**with_model | SMALL)).person()
    session = await talker.session(agent="ask")
    model.play(text_answer("Before."))
    first = await talker.say(session, "before")
    await talker.until(session, *END, turn=first["turn_id"])
    for number in range(12):
        model.play(calls_answer(call("read_file", {"path": f"f{number}"}, id=f"call_{number}")))
    model.play(text_answer("Read."))
    accepted = await talker.say(session, "read them all")
    after = accepted["seq"] - 1
    for number in range(12):
        waiting = await talker.until(session, "turn.waiting", after=after)
        after = waiting[-1].seq
        await talker.answer(session, f"call_{number}", result=f"{number} " + "x" * 6000)
    await talker.until(session, "turn.completed", turn=accepted["turn_id"])
    sent = model.bodies[-1]["messages"][1:]
    results = [m["content"].split()[0] for m in sent if m["role"] == "tool"]

    assert [m["content"] for m in sent[:3]] == [TURNS_CUT, "read them all", STEPS_CUT]
    assert 1 < len(results) < 12
    assert results == [str(n) for n in range(12)][-len(results) :]


async def test_a_step_of_many_calls_is_sent_whole(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """The latest step is there with every result, also where the prompt alone fills the window."""
    talker = await (await start(**with_model, llm_context_tokens=4_000)).person()
    ids = [f"call_{n}" for n in range(70)]
    model.play(calls_answer(*(call("read_file", {"path": each}, id=each) for each in ids)))
    model.play(text_answer("Read."))
    session = await talker.session(agent="ask")
    await talker.say(session, "read them all")
    await talker.until(session, "turn.waiting")
    for each in ids:
        await talker.answer(session, each, result="y" * 200)
    events = await talker.until(session, *END)
    sent = model.bodies[-1]["messages"]

    assert events[-1].type == "turn.completed"
    assert [m["tool_call_id"] for m in sent if m["role"] == "tool"] == ids
    assert "read them all" in [m["content"] for m in sent]


async def test_a_long_output_is_cut_for_the_model_only(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """The model gets the beginning, the end and how much lies between; the history keeps everything."""
    talker = await (await start(**with_model, max_tool_output_chars=300)).person()
    output = "a" * 1000 + "b" * 1000
    model.play(calls_answer(call("read_file", {"path": "f"}, id="call_0")))
    model.play(text_answer("Long."))
    session = await talker.session(agent="ask")
    await talker.say(session, "read f")
    await talker.until(session, "turn.waiting")
    await talker.answer(session, "call_0", result=output)
    await talker.until(session, *END)
    shown = model.bodies[-1]["messages"][-1]["content"]
    history = await talker.history(session)

    assert shown == f"{'a' * 200}\n[… 1700 characters are left out here …]\n{'b' * 100}"
    assert [m["content"] for m in history if m["role"] == "tool"] == [output]


def test_short_outputs_are_not_touched() -> None:
    """What fits exactly is sent as it is."""
    assert cut_output("x" * 300, 300) == "x" * 300


async def _add_messages(running: Running) -> None:
    """Give the only session ``TURNS`` completed turns of ``EACH`` messages of some 500 characters."""
    agent = running.app.state.agent
    at = now()

    async def unit(tx: Any) -> None:
        numbered = [
            {"id": new_id(), "session_db_id": 1, "message_id": new_id(), "state": "completed"} for _ in range(TURNS)
        ]
        await tx.session.execute(insert(turns_table), [row | {"created_at": at} for row in numbered])
        rows = [
            {
                "id": new_id(),
                "session_db_id": 1,
                "turn_db_id": n // EACH + 1,
                "seq": n + 100,
                "role": "assistant" if n % EACH else "user",
                "status": "completed",
                "content": f"{n} " + "word " * 100,
                "timestamp": at,
            }
            for n in range(TURNS * EACH)
        ]
        await tx.session.execute(insert(messages_table), rows)

    await agent.database.write(unit)
