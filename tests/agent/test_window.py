"""What a model is sent of long sessions and long outputs: always valid, always within its window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.event import listen, remove

from codelab.agent.repository import messages
from codelab.agent.repository.tables import messages as messages_table
from codelab.agent.repository.tables import turns as turns_table
from codelab.agent.turns.cutting import cut_output
from codelab.agent.turns.transcript import STEPS_CUT, TURNS_CUT
from codelab.db import new_id, now
from tests.agent.providers.upstream import chunk, chunks_of, text_answer
from tests.agent.transcripts import END, call, calls_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

EACH = 10
SMALL = {"llm_context_tokens": 20_000, "llm_max_output_tokens": 2_000, "summarise_at": None}
#: Bytes that fit beside the answer, as long as nothing is known about the model.
ROOM = 18_000 * 3


async def test_a_long_session_costs_what_a_short_one_does(
    model: Upstream,
    start: Callable[..., Awaitable[Running]],
    with_model: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn after 100,000 messages reads as many rows in as many statements as after 200; the cut leaves a mark."""
    running = await start(**with_model | SMALL)
    talker = await running.person()
    rows, statements = 0, 0
    list_before = messages.list_before

    async def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal rows
        page = await list_before(*arguments, **more)
        rows += len(page)
        return page

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal statements
        statements += "FROM messages" in statement

    monkeypatch.setattr(messages, "list_before", counted)
    listen(running.app.state.agent.database.engine.sync_engine, "before_cursor_execute", count)
    model.otherwise = lambda _body: (text_answer("The last."),)
    costs = []
    for key, turns in enumerate((20, 10_000), start=1):
        session = await talker.session(agent="ask")
        await _add_messages(running, key, turns)
        rows, statements = 0, 0
        accepted = await talker.say(session, "the last")
        events = await talker.until(session, *END, after=accepted["seq"] - 1)
        costs.append((rows, statements))
        sent = [m["content"] for m in model.bodies[-1]["messages"][1:]]
        kept = len(sent) - 2

        assert events[-1].type == "turn.completed"
        assert (sent[0], sent[-1]) == (TURNS_CUT, "the last")
        assert 0 < kept <= rows < 200
        assert kept % EACH == 0
        assert [content.split()[0] for content in sent[1:-1]] == [str(n) for n in range(turns * EACH)][-kept:]
        assert sum(len(content) for content in sent) < ROOM
    assert costs[0] == costs[1]


async def test_reading_backwards_uses_the_index(start: Callable[..., Awaitable[Running]], dialect: str) -> None:
    """Both databases find the newest messages, and a page of the history, by the index of their order, unsorted."""
    running = await start()
    talker = await running.person()
    for key in (1, 2, 3):
        await talker.session(agent="ask")
        await _add_messages(running, key, 300)

    def explain(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> tuple[str, Any]:
        prefix = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
        return (prefix + statement if "FROM messages" in statement else statement), values

    engine = running.app.state.agent.database.engine
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.exec_driver_sql("ANALYZE")
    listen(engine.sync_engine, "before_cursor_execute", explain, retval=True)
    try:
        async with engine.connect() as connection:
            read = (
                await messages.list_before(connection, 2, (601, 0), limit=65),
                await messages.list_before(connection, 2, (601, 0), after=(590, 2_905), limit=65),
                await messages.list_before(connection, 2, (600, 2_990), after=(600, 0), limit=65),
                await messages.list_page(connection, 2, after=None, limit=65),
                await messages.list_page(connection, 2, after=(400, 1_050), limit=65),
            )
    finally:
        remove(engine.sync_engine, "before_cursor_execute", explain)

    for plan in ("\n".join(map(str, rows)) for rows in read):
        assert "uq_messages_order" in plan, plan
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


async def test_the_first_turn_has_no_earlier_messages(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """Where only steps of the session's first turn are left out, nothing claims that earlier turns are."""
    talker = await (await start(**with_model | SMALL)).person()
    session = await talker.session(agent="ask")
    await _read_files(model, talker, session, 12)
    sent = model.bodies[-1]["messages"][1:]

    assert [m["content"] for m in sent[:2]] == ["read them all", STEPS_CUT]
    assert sent[-1]["content"].startswith("11 ")


async def test_a_message_larger_than_the_window_is_cut(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """The model gets both ends of a question that is too long, in a request that fits; the history keeps everything."""
    talker = await (await start(**with_model | SMALL)).person()
    question = "BEGIN " + "\u4f60 " * 200_000 + " END"
    model.play(text_answer("Long."))
    session = await talker.session(agent="ask")
    await talker.say(session, question)
    events = await talker.until(session, *END)
    sent = model.bodies[0]["messages"]
    history = await talker.history(session)

    assert events[-1].type == "turn.completed"
    assert sent[1]["content"].startswith("BEGIN ")
    assert sent[1]["content"].endswith(" END")
    assert "characters are left out here" in sent[1]["content"]
    assert ROOM * 0.9 < len(msgspec.json.encode(model.bodies[0])) < ROOM * 1.1
    assert history[0]["content"] == question


async def test_arguments_larger_than_the_window_are_cut(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """What was written into a file may be too long to be sent back: a JSON object says so; short arguments stay."""
    talker = await (await start(**with_model | SMALL)).person()
    content = "x" * 100_000
    short = {"path": "f", "content": "y"}
    model.play(
        calls_answer(
            call("write_file", {"path": "f", "content": content}, id="call_0"),
            call("write_file", short, id="call_1"),
        )
    )
    model.play(text_answer("Written."))
    session = await talker.session(agent="coder")
    await talker.say(session, "write")
    waiting = await talker.until(session, "turn.waiting")
    for approval_id in waiting[-1].data["approval_ids"]:
        await talker.decide(session, approval_id, "reject")
    events = await talker.until(session, *END)
    first, second = [
        msgspec.json.decode(made["function"]["arguments"]) for made in model.bodies[-1]["messages"][2]["tool_calls"]
    ]

    assert events[-1].type == "turn.completed"
    assert (list(first), second) == (["cut"], short)
    assert "characters of arguments are left out" in first["cut"]


async def test_the_room_follows_what_the_provider_counts(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """A model that counts a token for every two bytes is sent less the next time, though more was said meanwhile."""
    running = await start(**with_model | SMALL)
    talker = await running.person()
    session = await talker.session(agent="ask")
    await _add_messages(running, 1, 20)

    def counted(body: dict[str, Any]) -> tuple[bytes]:
        usage = {"prompt_tokens": len(msgspec.json.encode(body)) // 2, "completion_tokens": 5}
        return (chunks_of(chunk("Well."), chunk(finish="stop", usage=usage)),)

    model.otherwise = counted
    for _ in range(6):
        accepted = await talker.say(session, "go on")
        await talker.until(session, "turn.completed", turn=accepted["turn_id"])
    sizes = [len(msgspec.json.encode(body)) for body in model.bodies]

    assert sizes[0] > ROOM * 0.8
    assert sizes[-1] // 2 < 18_000 < sizes[0] // 2


async def test_a_long_turn_keeps_its_question_and_its_latest_steps(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """Steps are left out whole, so each call that is sent has its result; earlier turns go first."""
    talker = await (await start(**with_model | SMALL)).person()
    session = await talker.session(agent="ask")
    model.play(text_answer("Before."))
    first = await talker.say(session, "before")
    await talker.until(session, *END, turn=first["turn_id"])
    await _read_files(model, talker, session, 12)
    sent = model.bodies[-1]["messages"][1:]
    results = [m["content"].split()[0] for m in sent if m["role"] == "tool"]

    assert [m["content"] for m in sent[:3]] == [TURNS_CUT, "read them all", STEPS_CUT]
    assert 1 < len(results) < 12
    assert results == [str(n) for n in range(12)][-len(results) :]


async def test_a_step_of_many_calls_is_sent_whole(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """The latest step is there with every result, also where the prompt alone fills the window."""
    talker = await (await start(**with_model, llm_context_tokens=4_000, summarise_at=None)).person()
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


async def _read_files(model: Upstream, talker: Person, session: str, count: int) -> None:
    """Hold a turn in which so many files of 6,000 characters are read, one after the other."""
    for number in range(count):
        model.play(calls_answer(call("read_file", {"path": f"f{number}"}, id=f"call_{number}")))
    model.play(text_answer("Read."))
    accepted = await talker.say(session, "read them all")
    after = accepted["seq"] - 1
    for number in range(count):
        waiting = await talker.until(session, "turn.waiting", after=after)
        after = waiting[-1].seq
        await talker.answer(session, f"call_{number}", result=f"{number} " + "x" * 6000)
    await talker.until(session, "turn.completed", turn=accepted["turn_id"])


async def _add_messages(running: Running, session: int, count: int) -> None:
    """Give a session so many completed turns of ``EACH`` messages of some 500 characters."""
    agent = running.app.state.agent
    at = now()

    async def unit(tx: Any) -> None:
        row = {"session_db_id": session, "state": "completed", "created_at": at}
        numbered = [row | {"id": new_id(), "message_id": new_id()} for _ in range(count)]
        await tx.session.execute(insert(turns_table), numbered)
        own = select(turns_table.c.db_id).where(turns_table.c.session_db_id == session)
        found = await tx.session.execute(own.order_by(turns_table.c.db_id.desc()).limit(count))
        keys = list(found.scalars())[::-1]
        rows = [
            {
                "id": new_id(),
                "session_db_id": session,
                "turn_db_id": keys[n // EACH],
                "seq": n + 100,
                "role": "assistant" if n % EACH else "user",
                "status": "completed",
                "content": f"{n} " + "word " * 100,
                "timestamp": at,
            }
            for n in range(count * EACH)
        ]
        await tx.session.execute(insert(messages_table), rows)

    await agent.database.write(unit)
