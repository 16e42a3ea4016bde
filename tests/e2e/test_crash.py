"""The day the power fails: a server is killed while an answer streams, and started again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conversation import END, Line, Talk, conversing
from tests.e2e.plays import PLAYS
from tests.e2e.proof import prove, prove_whole, settle
from tests.support.forking import forked_server
from tests.support.process import server_environ
from tests.support.server import Event, Person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

#: A server is killed after fewer events than this: at once, or within so many seconds.
MOST, MOMENT = 120, 0.03
#: Seconds for the last server to bring all that was begun to its end.
PATIENCE = 60.0


@pytest.mark.parametrize("deltas", [1, 30])
async def test_a_killed_server_goes_on_where_it_was(databases: DatabaseUrls, tmp_path: Path, deltas: int) -> None:
    """Kill -9 in the middle of an answer: what was seen is kept, the turn ends, nothing stays running."""
    seen: list[Event] = []

    def enough(event: Event) -> bool:
        seen.append(event)
        return sum(event.type == "message.delta" for event in seen) >= deltas

    with forked_server(tmp_path, databases) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "count to 200")
            queued = await ada.say(session, "count to 2")
            await ada.events(session, enough)
        server.kill()

    with forked_server(tmp_path, databases) as server:
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


@pytest.mark.timeout(5400)  # with --soak; otherwise below a minute
async def test_kills_at_random_instants_lose_nothing(
    databases: DatabaseUrls, tmp_path: Path, seed: int, *, soak: bool
) -> None:
    """Whenever the server dies, what was acknowledged or seen is there once, and all that was begun comes to an end."""
    kills = 200 if soak else 10
    chance = random.Random(seed)
    line = Line()
    talks = {Talk(line, random.Random(chance.random())): play for play in PLAYS}
    async with conversing(line, talks) as finish:
        for _ in range(kills):
            with forked_server(tmp_path, databases) as server:
                await line.connect(server)
                await line.events(chance.randrange(MOST))
                await asyncio.sleep(chance.choice((0, chance.uniform(0, MOMENT))))
                server.kill()
                line.cut()
                assert "nobody expected" not in server.log.read_text(encoding="utf-8")
        with forked_server(tmp_path, databases) as server:
            person = await line.connect(server)
            await finish(PATIENCE)
            async with asyncio.timeout(PATIENCE):
                for talk in talks:
                    await settle(person, talk.session)
                    await prove(talk, person)
            assert server.stop() == 0
    prove_whole(tmp_path, server_environ(tmp_path, databases))
    cut = sum(event.data.get("status") == "interrupted" for talk in talks for event in talk.seen)
    promises = sum(len(talk.promises) for talk in talks)
    # For whoever keeps the result of a soak.
    print(f"{kills} kills: {promises} promises kept, {cut} answers cut, {line.unanswered} commands without an answer,")  # noqa: T201
    print(f"{line.replayed} of them carried out before the kill")  # noqa: T201
    assert cut


async def test_a_second_server_waits_and_refuses(databases: DatabaseUrls, tmp_path: Path) -> None:
    """One process serves a database; the second says so in one line and ends with exit code 2."""
    from tests.support.process import PASSWORD, clean_environ, run_codelab

    with forked_server(tmp_path, databases):
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
