"""The 25 weaknesses of the reference system (W1-W25), and that none of them is ours: one test each.

Those of its auth service (W3, W4, W15-W19) are in ``test_weaknesses_auth.py``, those of how it runs (W20-W25) in
``test_weaknesses_running.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.agent.providers.upstream import text_answer
from tests.agent.test_entry import status_of
from tests.agent.transcripts import END, call, calls_answer, last
from tests.reference.clients import final, is_call, is_final, talking

if TYPE_CHECKING:
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running

WRITE = call("write_file", {"path": "a.py", "content": ""})


async def ask_for(model: Upstream, ada: Person, *calls: dict[str, Any], agent: str = "coder") -> str:
    """Let an agent ask for tools, and the model say that it is done afterwards; return the session."""
    model.play(calls_answer(*calls))
    model.otherwise = lambda _body: (text_answer("Done."),)
    session = await ada.session(agent=agent)
    await ada.say(session, "go")
    await ada.until(session, "turn.waiting", *END)
    return session


async def pending(ada: Person, session: str) -> list[dict[str, Any]]:
    """Return what waits for a person."""
    found = (await ada.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()
    waiting: list[dict[str, Any]] = found["pending_approvals"]
    return waiting


async def test_w01_decisions_by_hitl_decision_count(model: Upstream, talker: Person) -> None:
    """A decision changes something, and the turn goes on by it."""
    session = await ask_for(model, talker, WRITE | {"id": "c1"})
    async with talking(talker, session) as talk:
        await talk.until(is_call)
        await talk.send("hitl_decision", call_id="c1", decision="reject")
        assert await talk.until(is_final) == [final("Done.")]
    assert await pending(talker, session) == []


async def test_w02_no_message_is_lost(model: Upstream, talker: Person) -> None:
    """Fifty messages at once to one session are all kept, and each has its answer."""
    model.otherwise = lambda _body: (text_answer("Yes."),)
    session = await talker.session(agent="ask")
    sent = [f"message {number}" for number in range(50)]
    await asyncio.gather(*(talker.say(session, content) for content in sent))
    ended: list[int] = []

    def all_ended(event: Event) -> bool:
        ended.extend([event.seq] if event.type in END else [])
        return len(ended) == len(sent)

    await talker.events(session, all_ended, timeout=60)
    history = await talker.history(session)

    assert sorted(m["content"] for m in history if m["role"] == "user") == sorted(sent)
    assert [m["role"] for m in history] == ["user", "assistant"] * 50


async def test_w05_no_transaction_is_open_during_a_model_call(model: Upstream, talker: Person) -> None:
    """While one session waits for its model another one writes, and is answered."""
    release = asyncio.Event()
    model.play(release, text_answer("Late."))
    model.play(text_answer("At once."))
    slow, quick = await talker.session(agent="ask"), await talker.session(agent="ask")
    await talker.say(slow, "wait")
    await talker.until(slow, "turn.started")
    async with asyncio.timeout(60):
        while not model.bodies:
            await asyncio.sleep(0.001)
    await talker.say(quick, "hello")
    done = await talker.until(quick, *END)
    still = (await talker.http.get(f"/api/v1/sessions/{slow}")).json()["active_turn"]
    release.set()

    assert done[-1].type == "turn.completed"
    assert still["state"] == "running"
    assert (await talker.until(slow, *END))[-1].type == "turn.completed"


async def test_w06_no_socket_without_authentication(running: Running, ada: Person) -> None:
    """Nobody drives a session over a socket without a proof of who they are."""
    session = await ada.session()
    for path in (f"/api/v1/ws/{session}", f"/ws/{session}", "/ws/any", f"/api/v1/sessions/{session}/stream"):
        assert await status_of(running.url, path) == 401


async def test_w07_everything_is_somebodys(running: Running, ada: Person) -> None:
    """Another person's sessions, approvals, figures and incidents do not exist, over HTTP and on sockets."""
    session = await ada.session(agent="coder")
    await ada.say(session, "create hello.py that prints hi")
    await ada.until(session, "turn.waiting")
    bob = await running.person("bob")
    for path in ("", "/history", "/pending-approvals"):
        assert (await bob.http.get(f"/sessions/{session}{path}")).status_code == 404
    listed = [
        (await bob.http.get(path)).json() for path in ("/sessions", "/events/audit-log", "/events/metrics/sessions")
    ]
    assert (listed[0]["total"], listed[1]["count"], listed[2]["count"]) == (0, 0, 0)
    async with talking(bob, session) as talk:  # a session of his own, of the same name
        await talk.send("tool_result", call_id="call_1", result=1)
        assert "no call" in (await talk.read())["error"]
    assert len(await pending(ada, session)) == 1


async def test_w08_approvals_belong_to_one_session(model: Upstream, talker: Person) -> None:
    """A result in one session does not answer another's call, though both have the same id."""
    first = await ask_for(model, talker, WRITE | {"id": "c1"})
    second = await ask_for(model, talker, WRITE | {"id": "c1"})
    async with talking(talker, second) as talk:
        await talk.send("tool_result", call_id="c1", result="x")
        await talk.until(is_final)

    assert await pending(talker, second) == []
    assert [item["call_id"] for item in await pending(talker, first)] == ["c1"]


async def test_w09_a_call_id_used_again_is_asked_again(model: Upstream, talker: Person) -> None:
    """A model that gives two calls the same id has a person asked about each."""
    session = await ask_for(model, talker, WRITE | {"id": "call_0"})
    model.play(calls_answer(WRITE | {"id": "call_0"}))
    await talker.answer(session, "call_0", result=1)  # refused: nobody has approved
    (first,) = await pending(talker, session)
    await talker.decide(session, first["approval_id"], "reject")
    events = await talker.events(session, lambda event: event.type == "turn.waiting" and event.seq > 10)
    (second,) = await pending(talker, session)

    assert second["call_id"] not in {"call_0", ""}
    assert last(events, "approval.requested")["call_id"] == second["call_id"]


async def test_w10_what_is_denied_leaves_nothing_open(model: Upstream, talker: Person) -> None:
    """An architect who writes code is told no at once: no approval, no call for a client, a valid next request."""
    session = await ask_for(model, talker, WRITE, agent="architect")
    kinds = {event.type for event in await talker.until(session, *END)}

    assert await pending(talker, session) == []
    assert not kinds & {"approval.requested", "tool.requested"}
    assert len(model.bodies) == 2


async def test_w11_calls_and_results_are_paired(model: Upstream, talker: Person) -> None:
    """A message during an open call, a result of no call and a second result: what models are sent stays valid."""
    session = await ask_for(model, talker, call("read_file", {"path": "a"}, id="c1"))
    await talker.say(session, "and this?")
    unknown = await talker.answer(session, "c2", result=1)
    once, twice = [await talker.answer(session, "c1", result=number) for number in (1, 2)]
    await talker.events(session, lambda event: event.type == "turn.completed" and event.seq > 12, timeout=60)
    tools = [m["content"] for m in await talker.history(session) if m["role"] == "tool"]

    assert (unknown.status_code, once.status_code, twice.content) == (404, 200, once.content)
    assert tools == ["1"]


async def test_w12_a_switch_to_the_orchestrator_goes_on(model: Upstream, talker: Person) -> None:
    """The task is routed from there and answered; the client sees no raw chunk and no dead end."""
    model.play(calls_answer(call("switch_mode", {"mode": "orchestrator", "reason": "not mine"})))
    model.play(text_answer("Answered."))
    session = await talker.session(agent="ask")
    async with talking(talker, session) as talk:
        await talk.say("explain this")
        chunks = await talk.until(is_final)

    assert {chunk["type"] for chunk in chunks} == {"agent_switched", "assistant_message"}
    assert chunks[-1] == final("Answered.")
    assert chunks[0]["to_agent"] == "orchestrator"


async def test_w13_a_switch_answers_its_own_call_once(model: Upstream, talker: Person) -> None:
    """Later switches add no result to an old call; every transcript stays valid."""
    model.play(calls_answer(call("switch_mode", {"mode": "debug"}, id="s1")))
    model.otherwise = lambda _body: (text_answer("Done."),)
    session = await talker.session(agent="ask")
    await talker.say(session, "go")
    await talker.until(session, *END)
    for agent in ("coder", "orchestrator"):
        await talker.http.post(f"/agents/{session}/switch", json={"target_agent": agent, "reason": "x"})
        accepted = await talker.say(session, "fix it")
        await talker.until(session, *END, turn=accepted["turn_id"])

    assert [m["tool_call_id"] for m in await talker.history(session) if m["role"] == "tool"] == ["s1"]


async def test_w14_a_specialist_can_hand_over(model: Upstream, talker: Person) -> None:
    """Every agent is offered ``switch_mode``, the coder too, and the next one goes on in the same turn."""
    session = await ask_for(model, talker, call("switch_mode", {"mode": "debug", "reason": "a crash"}))
    context = (await talker.http.get(f"/agents/{session}/current", params={"include_history": "true"})).json()[
        "context"
    ]

    assert context["current_agent"] == "debug"
    assert [(s["from_agent"], s["to_agent"], s["by"]) for s in context["switch_history"]] == [
        ("coder", "debug", "agent")
    ]
    for agent in (await talker.http.get("/agents")).json()["agents"]:
        assert "switch_mode" in agent["allowed_tools"] or agent["type"] in {"orchestrator", "universal"}
