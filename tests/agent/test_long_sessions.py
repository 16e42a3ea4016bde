"""Long work: queues, sessions of a thousand messages, models that never stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.repository import messages, turns
from codelab.db import new_id
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, asked, call, calls_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running


async def test_queued_messages_wait_behind_open_calls(model: Upstream, talker: Person) -> None:
    """Messages sent while a tool runs never come between a call and its result (W11)."""
    model.otherwise = lambda body: (text_answer(f"You said {asked(body)}"),)
    model.play(calls_answer(call("read_file", {"path": "a"}, id="call_0")))
    session = await talker.session(agent="ask")
    await talker.say(session, "first")
    await talker.until(session, "turn.waiting")
    late = [await talker.say(session, f"later {n}") for n in range(3)]
    await talker.answer(session, "call_0", result="a")
    await talker.until(session, "turn.completed", turn=late[-1]["turn_id"])
    roles = [m["role"] for m in model.bodies[-1]["messages"]]

    assert len(model.bodies) == 5
    assert roles == ["system", "user", "assistant", "tool", "assistant", *["user", "assistant"] * 2, "user"]
    assert [asked(body) for body in model.bodies] == ["first", "first", "later 0", "later 1", "later 2"]


async def test_a_session_of_more_than_a_thousand_messages_works(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """The model is sent all of them, and the history has each once, page by page (W20)."""
    running = await start(**with_model)
    talker = await running.person()
    session = await talker.session(agent="ask")
    await _add_turns(running, 600)
    model.play(text_answer("The last."))
    accepted = await talker.say(session, "the last")
    await talker.until(session, *END, after=accepted["seq"] - 1)
    url = f"/api/v1/sessions/{session}/history"
    pages: list[list[dict[str, Any]]] = []
    cursor = None
    while not pages or cursor:
        page = (await talker.http.get(url, params={"limit": 500} | ({"cursor": cursor} if cursor else {}))).json()
        pages.append(page["messages"])
        cursor = page["next_cursor"]
    whole = [message["content"] for page in pages for message in page]
    first = (await talker.http.get(url)).json()

    assert [len(page) for page in pages] == [500, 500, 202]
    assert whole == [f"{role} {n}" for n in range(600) for role in ("user", "assistant")] + [
        "the last",
        "The last.",
    ]
    assert [m["content"] for m in model.bodies[0]["messages"][1:]] == whole[:-1]
    assert (len(first["messages"]), first["message_count"]) == (1000, 1202)
    assert (await talker.http.get(url, params={"cursor": "W10"})).json()["field"] == "cursor"


async def _add_turns(running: Running, count: int) -> None:
    """Give the only session so many completed turns, as if they had been talked."""
    agent = running.app.state.agent

    async def unit(tx: Any) -> None:
        for number in range(count):
            message_id = new_id()
            turn = await turns.add(tx.session, turn_id=new_id(), session_db_id=1, message_id=message_id)
            await turns.end(tx.session, turn.db_id, "completed")
            for role in ("user", "assistant"):
                seq = await agent.log.append(tx, 1, ("message.created", {"role": role}), messages=1)
                await messages.add(
                    tx.session,
                    message_id=message_id if role == "user" else new_id(),
                    session_db_id=1,
                    turn_db_id=turn.db_id,
                    seq=seq,
                    role=role,
                    content=f"{role} {number}",
                )

    await agent.database.write(unit)
