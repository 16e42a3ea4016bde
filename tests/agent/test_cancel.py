"""A person's cancel: wherever a turn hangs it ends at once, and the model server is left alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.providers.upstream import SILENT, STALL, chunk, event, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types
from tests.agent.witness import Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Event, Person, Running

HALF_A_CALL = event(chunk(tool_calls=[call("read_file", '{"pa', id="half") | {"index": 0}]))


@pytest.fixture
async def talker(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person in whose server nothing but a cancel ends a silent model call: no time-out, no renewal of leases."""
    return await (await start(**with_model | {"lease_seconds": 3600.0, "llm_idle_timeout": 3600.0})).person()


async def asked(model: Upstream, times: int) -> None:
    """Return when the model server has so many requests."""
    async with asyncio.timeout(60):
        while len(model.bodies) < times:
            await asyncio.sleep(0.01)


async def cancel(person: Person, session: str, model: Upstream) -> list[Event]:
    """Cancel, and wait for the end of the turn and of the connection to the model server; return the log."""
    answer = await person.http.post(f"/api/v1/sessions/{session}/cancel")
    assert answer.json()["state"] == "cancelled", answer.text
    events = await person.until(session, *END)
    async with asyncio.timeout(60):
        await model.closed_by_client.wait()
    return events


async def goes_on(person: Person, session: str, model: Upstream) -> None:
    """Fail unless the session answers the next message."""
    model.play(text_answer("Yes."))
    accepted = await person.say(session, "still there?")
    await person.until(session, "turn.completed", turn=accepted["turn_id"])


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((SILENT,), []),
        ((STALL,), []),
        ((text_of("Well"), STALL), ["Well"]),
        ((text_of("I read."), HALF_A_CALL, STALL), ["I read."]),
    ],
    ids=["no status", "no word", "in a sentence", "in a call"],
)
async def test_a_model_that_never_answers(
    model: Upstream, talker: Person, pieces: tuple[Any, ...], said: list[str]
) -> None:
    """The turn ends cancelled, the connection is closed, what was said stays, the next message is answered."""
    model.play(*pieces)
    session = await talker.session(agent="ask")
    await talker.say(session, "hello")
    await asked(model, 1)
    if said:
        await talker.until(session, "message.delta")
    events = await cancel(talker, session, model)
    await goes_on(talker, session, model)
    history = await talker.history(session)

    assert events[-1].type == "turn.cancelled"
    assert [m["content"] for m in history if m["status"] == "interrupted"] == said
    assert "tool.requested" not in types(events)


@pytest.mark.parametrize("by", ["router", "agent"])
async def test_a_model_that_never_answers_after_a_hand_over(model: Upstream, talker: Person, by: str) -> None:
    """Handed over by the router or by an agent: the cancel stops the next agent's call, and the hand-over stays."""
    if by == "agent":
        model.play(calls_answer(call("switch_mode", {"mode": "debug"}, id="switch")))
    model.play(SILENT)
    session = await talker.session(agent="ask" if by == "agent" else None)
    await talker.say(session, "find the bug in main.py")
    await asked(model, 2 if by == "agent" else 1)
    events = await cancel(talker, session, model)
    agent = (await talker.http.get(f"/api/v1/sessions/{session}")).json()["current_agent"]
    await goes_on(talker, session, model)

    assert events[-1].type == "turn.cancelled"
    assert last(events, "agent.switched")["by"] == by
    assert agent == last(events, "agent.switched")["to_agent"] == "debug"


@asynccontextmanager
async def nobody_writes(migrated: DatabaseUrls, dialect: str) -> AsyncIterator[None]:
    """Keep everybody from writing to the log for a while."""
    async with Witness.at(migrated) as witness:
        if dialect == "sqlite":
            async with witness.lock(1.0):
                yield
        else:
            async with witness.block_readers():
                yield
                await witness.wait_for_blocked()


async def test_while_the_text_waits_for_the_database(
    model: Upstream, talker: Person, migrated: DatabaseUrls, dialect: str
) -> None:
    """Words wait to be written when the cancel comes: the turn ends as soon as the database takes writes again."""
    gate = asyncio.Event()
    model.play(text_of("Well"), gate, text_of(", more"), STALL)
    session = await talker.session(agent="ask")
    await talker.say(session, "hello")
    await talker.until(session, "message.delta")
    async with nobody_writes(migrated, dialect):
        gate.set()
        cancelling = asyncio.create_task(cancel(talker, session, model))
    events = await cancelling
    await goes_on(talker, session, model)

    assert events[-1].type == "turn.cancelled"
    assert last(events, "message.completed")["status"] == "interrupted"
    assert last(events, "message.completed")["content"] == "".join(
        e.data["text"] for e in events if e.type == "message.delta"
    )


async def test_many_at_once(model: Upstream, talker: Person) -> None:
    """Twenty cancels of one turn: one of them ends it, all are answered, it ends once."""
    model.play(text_of("Well"), STALL)
    session = await talker.session(agent="ask")
    accepted = await talker.say(session, "hello")
    await talker.until(session, "message.delta")
    answers = await asyncio.gather(*(talker.http.post(f"/api/v1/sessions/{session}/cancel") for _ in range(20)))
    events = await talker.until(session, *END)
    await goes_on(talker, session, model)

    assert {"turn_id": accepted["turn_id"], "state": "cancelled"} in [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {200}
    assert types(events).count("turn.cancelled") == 1
