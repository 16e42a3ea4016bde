"""The day the power fails: a server is killed while an answer streams, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.support.process import server_process
from tests.support.server import Event, Person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

END = ("turn.completed", "turn.failed", "turn.cancelled")


@pytest.mark.parametrize("deltas", [1, 7, 30])
async def test_a_killed_server_goes_on_where_it_was(databases: DatabaseUrls, tmp_path: Path, deltas: int) -> None:
    """Kill -9 in the middle of an answer: what was seen is kept, the turn ends, nothing stays running."""
    seen: list[Event] = []

    def enough(event: Event) -> bool:
        seen.append(event)
        return sum(event.type == "message.delta" for event in seen) >= deltas

    with server_process(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "count to 200")
            queued = await ada.say(session, "count to 2")
            await ada.events(session, enough)
        server.kill()

    with server_process(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            events = await ada.until(session, *END, turn=queued["turn_id"])
            history = await ada.history(session)
            info = (await http.get(f"/api/v1/sessions/{session}")).json()

            assert server.stop() == 0

    assert events[: len(seen)] == seen
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ended = [event.data["turn_id"] for event in events if event.type == "turn.completed"]
    assert ended == [accepted["turn_id"], queued["turn_id"]]
    assert info["active_turn"] is None
    assert [m["id"] for m in history if m["role"] == "user"] == [accepted["message_id"], queued["message_id"]]
    whole = [m["content"] for m in history if m["role"] == "assistant" and m["status"] == "completed"]
    cut = [m["content"] for m in history if m["status"] == "interrupted"]
    assert len(whole) == 2
    assert "200" in whole[0]
    assert cut
    assert whole[0].startswith(cut[0])


@pytest.mark.timeout(1800)  # with --soak; otherwise a few seconds
async def test_kills_at_random_instants_lose_nothing(databases: DatabaseUrls, tmp_path: Path, *, soak: bool) -> None:
    """Whenever the server dies, every acknowledged message is there once, in order, and is answered in the end."""
    rounds = 20 if soak else 2
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    acknowledged: list[str] = []
    session = ""
    for _ in range(rounds):
        with server_process(tmp_path, databases) as server:
            async with server.login() as http:
                ada = Person(http, "admin")
                session = session or await ada.session(agent="ask")
                kill = asyncio.get_running_loop().call_later(chance.uniform(0.0, 0.8), server.process.kill)
                # The transport fails when the server dies; what was not acknowledged by then was never promised.
                with contextlib.suppress(httpx2.TransportError):
                    while True:
                        acknowledged.append((await ada.say(session, "count to 5"))["message_id"])
                        await asyncio.sleep(0.02)
                kill.cancel()
            server.kill()

    with server_process(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            final = await ada.say(session, "count to 3")
            events = await ada.events(
                session,
                lambda event: event.type in END and event.data["turn_id"] == final["turn_id"],
                timeout=110 if not soak else 1000,
            )
            history = await ada.history(session)

    asked = [message["id"] for message in history if message["role"] == "user"]
    ended = {event.data["turn_id"]: event.type for event in events if event.type in END}
    completed = [m["turn_id"] for m in history if m["role"] == "assistant" and m["status"] == "completed"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), seed
    assert len(asked) == len(set(asked)), seed
    assert [message for message in asked if message in set(acknowledged)] == acknowledged, seed
    # A message whose acknowledgement the kill swallowed may be there as well; it is answered too.
    assert set(ended.values()) == {"turn.completed"}, seed
    assert sorted(completed) == sorted(ended), seed
    assert len(ended) == len(asked), seed


async def test_an_approval_survives_a_crash(databases: DatabaseUrls, tmp_path: Path) -> None:
    """A call that waits for a person before the crash can be decided after it."""
    with server_process(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            session = await ada.session(agent="coder")
            await ada.say(session, "create hello.py that prints hi")
            approval = next(e.data for e in await ada.until(session, "turn.waiting") if e.type == "approval.requested")
        server.kill()

    with server_process(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            decided = await ada.decide(session, approval["approval_id"], "approve")
            assert decided.status_code == 200, decided.text
            call = (await ada.until(session, "tool.requested"))[-1].data
            await ada.answer(session, call["call_id"], result={"path": "hello.py", "bytes_written": 12})
            events = await ada.until(session, *END)

    assert events[-1].type == "turn.completed"


async def test_a_second_server_waits_and_refuses(databases: DatabaseUrls, tmp_path: Path) -> None:
    """One process serves a database; the second says so in one line and ends with exit code 2."""
    from tests.support.process import PASSWORD, clean_environ, run_codelab

    with server_process(tmp_path, databases):
        environ = clean_environ(
            tmp_path,
            AGENT_RUNTIME__DB_URL=databases.agent,
            AUTH_SERVICE__DB_URL=databases.auth,
            AUTH_SERVICE__MASTER_KEY=PASSWORD,
            CODELAB_DB_WAIT="1",
            CODELAB_LOG_LEVEL="error",
            AUTH_SERVICE__LOG_LEVEL="error",
        )
        second = run_codelab("serve", "--port", "0", folder=tmp_path, environ=environ)

    assert second.returncode == 2
    assert second.stdout == ""
    (line,) = [line for line in second.stderr.splitlines() if not line.startswith("{")]
    assert "another codelab server uses this database" in line
