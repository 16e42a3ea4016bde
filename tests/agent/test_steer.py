"""Messages that steer: they join the turn that is active, at its next model call, and none is ever lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.agent.providers import messages_api
from tests.agent.providers.upstream import STALL, chunk, chunks_of, run_upstream, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

FINISH = chunks_of(chunk(finish="stop"))


async def steer(person: Person, session: str, content: str) -> dict[str, Any]:
    """Send a message that steers and return its acknowledgement."""
    body = {"content": content, "delivery": "steer"}
    answer = await person.http.post(f"/api/v1/sessions/{session}/messages", json=body)
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def said(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return who says what in a request, without the system prompt."""
    return [(m["role"], m["content"] or "") for m in body["messages"][1:]]


async def queue_of(person: Person, session: str) -> list[dict[str, Any]]:
    """Return what waits in a session."""
    queue: list[dict[str, Any]] = (await person.http.get(f"/api/v1/sessions/{session}/queue")).json()["queue"]
    return queue


async def test_a_turn_that_would_complete_goes_on(model: Upstream, talker: Person) -> None:
    """While the model speaks two messages come: it says its sentence, is asked once more, and the turn ends once."""
    gate = asyncio.Event()
    model.play(text_of("Well."), gate, FINISH)
    model.play(text_answer("Shorter."))
    session = await talker.session(agent="ask")
    accepted = await talker.say(session, "tell me")
    await talker.until(session, "message.delta")
    joined = await steer(talker, session, "be brief")
    async with socket_of(talker, session) as socket:
        framed = (await socket.ask("message.send", content="please", delivery="steer"))["result"]
    gate.set()
    events = await talker.until(session, *END)
    history = await talker.history(session)

    assert joined["turn_id"] == framed["turn_id"] == accepted["turn_id"]
    assert said(model.bodies[1]) == [
        ("user", "tell me"),
        ("assistant", "Well."),
        ("user", "be brief"),
        ("user", "please"),
    ]
    assert types(events) == [
        "message.created",
        "turn.started",
        "message.started",
        "message.delta",
        "message.created",
        "message.created",
        "message.completed",
        "message.steered",
        "message.steered",
        "message.started",
        "message.delta",
        "message.completed",
        "turn.completed",
    ]
    created = [event.data for event in events if event.type == "message.created"]
    assert {data["turn_id"] for data in created} == {accepted["turn_id"]}
    assert [data["delivery"] for data in created] == ["queue", "steer", "steer"]
    assert [e.data["message_id"] for e in events if e.type == "message.steered"] == [
        joined["message_id"],
        framed["message_id"],
    ]
    assert [(m["content"], m.get("delivery"), m["turn_id"]) for m in history] == [
        ("tell me", None, accepted["turn_id"]),
        ("Well.", None, accepted["turn_id"]),
        ("be brief", "steer", accepted["turn_id"]),
        ("please", "steer", accepted["turn_id"]),
        ("Shorter.", None, accepted["turn_id"]),
    ]
    assert await queue_of(talker, session) == []


async def test_it_comes_after_the_results_that_were_open(model: Upstream, talker: Person) -> None:
    """One comes while the model asks for two tools, one while the second tool runs: both follow both results."""
    gate = asyncio.Event()
    calls = [call("read_file", {"path": name}, id=name) for name in ("a", "b")]
    model.play(text_of("I read."), gate, calls_answer(*calls))
    model.play(text_answer("Read."))
    session = await talker.session(agent="ask")
    await talker.say(session, "read both")
    await talker.until(session, "message.delta")
    await steer(talker, session, "only the names")
    gate.set()
    await talker.until(session, "turn.waiting")
    await talker.answer(session, "a", result="A")
    await steer(talker, session, "in one line")
    assert [item["content"] for item in await queue_of(talker, session)] == ["only the names", "in one line"]
    await talker.answer(session, "b", result="B")
    await talker.until(session, "turn.completed")

    assert said(model.bodies[1])[2:] == [
        ("tool", "A"),
        ("tool", "B"),
        ("user", "only the names"),
        ("user", "in one line"),
    ]
    assert [m["role"] for m in await talker.history(session)] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "user",
        "assistant",
    ]


async def test_anthropic_takes_it(start: Callable[..., Awaitable[Running]]) -> None:
    """In the messages API the results come first and the text in the same message; the next question is valid too."""
    async with run_upstream() as claude:
        settings: dict[str, Any] = {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_model": "claude-x"}
        talker = await (await start(**settings, llm_retries=0)).person()
        claude.play(messages_api.answer(messages_api.tool_block(0, "toolu_1", "read_file", '{"path": "a"}')))
        claude.play(messages_api.answer(messages_api.text_block(0, "Read.")))
        claude.play(messages_api.answer(messages_api.text_block(0, "Yes.")))
        session = await talker.session(agent="ask")
        await talker.say(session, "read")
        await talker.until(session, "turn.waiting")
        await steer(talker, session, "only the name")
        await talker.answer(session, "toolu_1", result="A")
        await talker.until(session, "turn.completed")
        again = await talker.say(session, "sure?")
        await talker.until(session, "turn.completed", turn=again["turn_id"])

    for body in claude.bodies:
        messages_api.check_request(body)
    kinds = [[block["type"] for block in message["content"]] for message in claude.bodies[1]["messages"]]
    assert kinds == [["text"], ["tool_use"], ["tool_result", "text"]]


async def test_without_an_active_turn_it_is_queued(model: Upstream, talker: Person) -> None:
    """A session that is idle begins a turn with it, as with any message."""
    model.play(text_answer("Yes."))
    session = await talker.session(agent="ask")
    accepted = await steer(talker, session, "hello")
    events = await talker.until(session, *END)
    created = last(events, "message.created")

    assert (created["delivery"], created["turn_id"]) == ("queue", accepted["turn_id"])
    assert last(events, "turn.completed")["turn_id"] == accepted["turn_id"]
    assert "delivery" not in (await talker.history(session))[0]


async def test_a_turn_that_is_cancelled_leaves_them_in_line(model: Upstream, talker: Person) -> None:
    """Each becomes a turn of its own, in the place where it came; none joins another turn."""
    model.play(text_of("Well"), STALL)
    for number in range(4):
        model.play(text_answer(f"{number}."))
    session = await talker.session(agent="ask")
    first = await talker.say(session, "first")
    await talker.until(session, "message.delta")
    sent = [
        await talker.say(session, "one"),
        await steer(talker, session, "two"),
        await talker.say(session, "three"),
        await steer(talker, session, "four"),
    ]
    listed = await queue_of(talker, session)
    await talker.http.post(f"/api/v1/sessions/{session}/cancel")
    events = await talker.until(session, *END, turn=listed[-1]["turn_id"])
    started = [e.data for e in events if e.type == "turn.started"]

    assert [item["content"] for item in listed] == ["one", "two", "three", "four"]
    assert [data["message_id"] for data in started[1:]] == [accepted["message_id"] for accepted in sent]
    assert [data["turn_id"] for data in started[1:]] == [item["turn_id"] for item in listed]
    assert [accepted["turn_id"] == first["turn_id"] for accepted in sent] == [False, True, False, True]
    assert [e.data["turn_id"] for e in events if e.type == "turn.completed"] == [item["turn_id"] for item in listed]
    assert "message.steered" not in types(events)
    assert [content for _, content in said(model.bodies[2])] == ["first", "one", "0.", "two"]


async def test_a_turn_that_fails_or_has_no_call_left_leaves_it_in_line(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """It is answered in a turn of its own; a turn is not failed for a message that came too late for it."""
    talker = await (await start(**with_model | {"max_steps": 1})).person()
    for ending, end in ((b"data: {{{\n\n", "turn.failed"), (FINISH, "turn.completed")):
        gate = asyncio.Event()
        model.play(text_of("Well"), gate, ending)
        model.play(text_answer("Yes."))
        session = await talker.session(agent="ask")
        first = await talker.say(session, "first")
        await talker.until(session, "message.delta")
        message = await steer(talker, session, "second")
        (item,) = await queue_of(talker, session)
        gate.set()
        events = await talker.until(session, *END, turn=item["turn_id"])
        ended = [(e.type, e.data["turn_id"]) for e in events if e.type in END]

        assert ended == [(end, first["turn_id"]), ("turn.completed", item["turn_id"])]
        assert last(events, "turn.started")["message_id"] == message["message_id"] == item["message_id"]


async def test_it_can_be_taken_back(model: Upstream, talker: Person) -> None:
    """Until the turn takes it, it is in the queue; what was removed is seen by no model."""
    gate = asyncio.Event()
    model.play(text_of("Well"), gate, FINISH)
    session = await talker.session(agent="ask")
    await talker.say(session, "first")
    await talker.until(session, "message.delta")
    await steer(talker, session, "never mind")
    (item,) = await queue_of(talker, session)
    removed = await talker.http.delete(f"/api/v1/sessions/{session}/queue/{item['turn_id']}")
    gate.set()
    await talker.until(session, "turn.completed")

    assert removed.json()["state"] == "cancelled"
    assert len(model.bodies) == 1


async def test_a_restart_keeps_it(serve: Serve, model: Upstream, with_model: dict[str, Any]) -> None:
    """The process ends while the model hangs: the call that is made again has the message."""
    model.play(text_of("Well"), STALL)
    model.play(text_answer("Briefly."))
    async with serve(**with_model) as running:
        ada = await running.person()
        session = await ada.session(agent="ask")
        accepted = await ada.say(session, "tell me")
        await ada.until(session, "message.delta")
        await steer(ada, session, "be brief")
    async with serve(**with_model) as running:
        ada = await running.person()
        events = await ada.until(session, *END, turn=accepted["turn_id"])

    assert said(model.bodies[1]) == [("user", "tell me"), ("user", "be brief")]
    assert types(events).count("turn.completed") == 1


async def test_a_long_turn_keeps_its_question_and_the_latest(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """However many messages steer a turn and whatever is left out: its question opens it, each call has its result."""
    small: dict[str, Any] = {"llm_context_tokens": 4_000, "llm_max_output_tokens": 256, "max_tool_output_chars": 200}
    small |= {"max_steps": 200, "summarise_at": None}
    talker = await (await start(**with_model | small)).person()
    session = await talker.session(agent="ask")
    for number in range(40):
        model.play(calls_answer(call("read_file", {"path": f"f{number}"}, id=f"call_{number}")))
    model.play(text_answer("Read."))
    accepted = await talker.say(session, "THE QUESTION")
    after = accepted["seq"] - 1
    for number in range(40):
        waiting = await talker.until(session, "turn.waiting", after=after)
        after = waiting[-1].seq
        length = 300 if number < 39 else 4_000  # at last they alone would fill the window
        for part in range(3):
            await steer(talker, session, f"hint {number}.{part} " + "x" * length)
        await talker.answer(session, f"call_{number}", result="y" * 5_000)
    events = await talker.until(session, *END, after=after)

    assert events[-1].type == "turn.completed"
    for number, body in enumerate(model.bodies[1:]):
        asked = [content for role, content in said(body) if role == "user" and not content.startswith("[")]
        assert asked[0] == "THE QUESTION"
        assert [content.split()[1] for content in asked[-3:]] == [f"{number}.{part}" for part in range(3)]
        assert said(body)[-4][0] == "tool"
    assert len(model.bodies[-1]["messages"]) < 60
