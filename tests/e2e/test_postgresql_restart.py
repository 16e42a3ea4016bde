"""PostgreSQL goes away under a server that is at work, and comes back: nobody has to restart anything."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conversation import Line, Talk, conversing
from tests.e2e.plays import PLAYS
from tests.e2e.proof import prove, prove_whole, settle
from tests.support.cluster import own_cluster
from tests.support.forking import forked_server
from tests.support.process import PASSWORD, server_environ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.server import Person


async def _ready(person: Person, status: int) -> dict[str, object]:
    """Wait until ``/ready`` answers with a status."""
    while (answer := await person.http.get("/ready")).status_code != status:
        await asyncio.sleep(0.05)
    told: dict[str, object] = answer.json()
    return told


async def _assert_refused(person: Person) -> None:
    """Fail unless reading and logging in are refused as something to try again."""
    read = await person.http.get("/api/v1/sessions")
    form = {"grant_type": "password", "client_id": "codelab-flutter-app", "username": "admin", "password": PASSWORD}
    login = await person.http.post("/oauth/token", data=form)
    assert read.headers["content-type"] == "application/problem+json"
    assert (read.status_code, read.json()["code"]) == (503, "unavailable")
    assert (login.status_code, login.json()["error"]) == (503, "temporarily_unavailable")
    assert read.headers["retry-after"] == login.headers["retry-after"] == "1"


@pytest.mark.timeout(300)  # on a busy machine; otherwise some 15 s
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_postgresql_ends_and_comes_back_under_load(end: str, tmp_path: Path, seed: int) -> None:
    """Killed or stopped while turns stream: requests are refused meanwhile, then all goes on, and nothing is lost."""
    chance = random.Random(seed)
    line = Line()
    talks = {Talk(line, random.Random(chance.random())): play for play in PLAYS}
    with own_cluster() as cluster, forked_server(tmp_path, cluster.databases) as server:
        async with conversing(line, talks) as finish, asyncio.timeout(200):
            person = await line.connect(server)
            for _ in range(2):
                await line.events(chance.randrange(20, 200))
                getattr(cluster, end)()
                away = await _ready(person, 503)
                await _assert_refused(person)
                await asyncio.sleep(chance.uniform(0.5, 2))
                await cluster.start()
                await _ready(person, 200)
                assert away == {"ready": False, "auth": False, "agent": False}
            assert line.refusals
            await finish(60)
            for talk in talks:
                await settle(person, talk.session)
                await prove(talk, person)
            assert not line.unanswered
            while (log := server.log.read_text(encoding="utf-8")).count("was taken again") < 2:  # one for each module
                await asyncio.sleep(0.1)
        assert server.stop() == 0
        prove_whole(tmp_path, server_environ(tmp_path, cluster.databases))
    assert "nobody expected" not in log
    assert "Traceback" not in log
