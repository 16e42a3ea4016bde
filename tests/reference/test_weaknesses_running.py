"""The reference's weaknesses in how it runs (W20-W25), and that none of them is ours: see ``test_weaknesses.py``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import event as sql

from tests.agent.providers.upstream import STALL, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of
from tests.reference.clients import is_final, talking
from tests.reference.test_weaknesses import WRITE, ask_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running


class Statements:
    """Count what is asked of a server's database."""

    def __init__(self, running: Running) -> None:
        self.seen: list[str] = []
        engine = running.app.state.agent.database.engine.sync_engine
        sql.listen(engine, "before_cursor_execute", lambda *arguments: self.seen.append(arguments[2]))

    def taken(self, word: str = "") -> int:
        """Return how many there were since the last look that have a word in them."""
        seen, self.seen = self.seen, []
        return sum(word in statement for statement in seen)


async def test_w20_a_message_costs_the_same_however_long_the_session(running: Running, ada: Person) -> None:
    """The first and a later turn take as many statements, and none deletes or rewrites messages; there is no limit."""
    session = await ada.session(agent="ask")
    statements = Statements(running)
    costs = []
    for number in range(12):
        statements.taken()
        accepted = await ada.say(session, "count to 1")
        await ada.until(session, *END, turn=accepted["turn_id"], after=accepted["seq"])
        seen = list(statements.seen)
        assert not any(statement.startswith("DELETE FROM messages") for statement in seen)
        if number in {1, 11}:
            costs.append(sum("INTO messages" in statement or "UPDATE messages" in statement for statement in seen))

    assert costs[0] == costs[1]


async def test_w21_a_list_takes_as_many_statements_for_one_as_for_many(running: Running, ada: Person) -> None:
    """No session costs a statement of its own, no message is read, and ``total`` counts all sessions."""
    statements = Statements(running)
    costs: list[int] = []
    listed: dict[str, Any] = {}
    for more in (1, 30):
        for _ in range(more):
            await ada.session()
        statements.taken()
        listed = (await ada.http.get("/sessions", params={"limit": 25})).json()
        assert not any("FROM messages" in statement for statement in statements.seen)
        costs.append(statements.taken("SELECT"))

    assert costs[0] == costs[1]
    assert (listed["total"], len(listed["sessions"])) == (31, 25)


async def test_w22_answers_stream_and_outlive_their_reader(model: Upstream, talker: Person) -> None:
    """A token arrives while the model still speaks, a turn can be stopped then, and a reader who goes loses nothing."""
    release = asyncio.Event()
    model.play(text_of("One "), release, text_answer("two."))
    session = await talker.session(agent="ask")
    async with talking(talker, session, query="?stream=tokens") as talk:
        await talk.say("hello")
        assert (await talk.read())["token"] == "One "
    release.set()
    done = await talker.until(session, *END)
    assert last(done, "message.completed")["content"] == "One two."
    model.play(text_of("Well"), STALL)
    async with talking(talker, session, query="?stream=tokens") as talk:
        await talk.say("again")
        await talk.read()
        await talker.http.post(f"/api/v1/sessions/{session}/cancel")
        (stopped,) = await talk.until(is_final)
    assert stopped["error"] == "Cancelled by the user"


async def test_w23_what_cannot_succeed_is_not_tried_again(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """A refusal of the model is made once and told as an error, with no address; it is no message of the assistant."""
    talker = await (await start(**with_model | {"llm_retries": 3})).person()
    model.play(b'{"error": {"message": "no"}}', status=400)
    session = await talker.session(agent="ask")
    await talker.say(session, "hello")
    failed = last(await talker.until(session, *END), "turn.failed")

    assert len(model.bodies) == 1
    assert model.url.removeprefix("http://") not in failed["error"]
    assert [m["role"] for m in await talker.history(session)] == ["user"]


async def test_w24_nothing_that_the_model_said_is_dropped(model: Upstream, talker: Person) -> None:
    """Text beside calls, every call of an answer, and arguments that are no JSON: all are kept, the last told back."""
    model.play(
        calls_answer(
            call("read_file", {"path": "a"}, id="c1"),
            call("read_file", {"path": "b"}, id="c2"),
            call("read_file", "{broken", id="c3"),
            text="Both at once.",
        )
    )
    model.play(text_answer("Done."))
    session = await talker.session(agent="coder")
    async with talking(talker, session) as talk:
        await talk.say("go")
        said, first, second = [await talk.read() for _ in range(3)]
        await talk.send("tool_result", call_id="c1", result="1")
        await talk.send("tool_result", call_id="c2", result="2")
        await talk.until(is_final)
    told = {m["tool_call_id"]: m["content"] for m in model.bodies[-1]["messages"] if m["role"] == "tool"}

    assert said["content"] == "Both at once."
    assert {first["call_id"], second["call_id"]} == {"c1", "c2"}
    assert (told["c1"], told["c2"]) == ("1", "2")
    assert "Invalid arguments" in told["c3"]


async def test_w25_figures_survive_a_restart(
    model: Upstream, start: Callable[..., Awaitable[Running]], serve: Any, with_model: dict[str, Any]
) -> None:
    """What was counted before a restart is counted after it; what is deleted is removed by the clean-up."""
    async with serve(**with_model) as running:
        talker = await running.person()
        session = await ask_for(model, talker, WRITE | {"id": "c1"})
        paths = ("/events/metrics", "/events/audit-log", f"/events/metrics/session/{session}")
        before = [(await talker.http.get(path)).json() for path in paths]
    running = await start(**with_model)
    again = await running.person()
    after = [(await again.http.get(path)).json() for path in paths]
    for figures in (before[0], after[0]):
        figures.pop("timestamp")

    assert before == after
    assert before[1]["count"] == 1
    assert before[2]["total_requests"] == 1
