"""The disk is full while turns run: what cannot be kept is refused, and all goes on when there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.agent.providers.upstream import Upstream, chunk, event, run_upstream, text_answer
from tests.e2e.conversation import END, Line, Talk, conversing
from tests.e2e.plays import PLAYS
from tests.e2e.proof import prove, prove_whole, settle
from tests.support.databases import DatabaseUrls
from tests.support.forking import forked_server
from tests.support.process import ServerProcess, server_environ
from tests.support.server import Person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="disks are made full as Linux does it")

FULL = "The disk of the database is full, or cannot be written; nothing was kept. Try again later."


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk of 64 MB; skip the test where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path, _server: ServerProcess) -> Iterator[None]:
    """Fill the disk of a folder to its last byte."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def limited(folder: Path, server: ServerProcess) -> Iterator[None]:
    """Let no file of the process grow, as ``ulimit -f`` and some quotas do; the write fails with EFBIG."""
    import resource

    size = min(file.stat().st_size for file in folder.glob("*.db-wal"))
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


async def be_refused(person: Person, times: int) -> None:
    """Send commands until so many were refused; those who talk may all wait for turns that wait for room."""
    refused = 0
    while refused < times:
        answer = await person.http.post("/api/v1/sessions")
        if not answer.is_success:
            assert (answer.status_code, answer.json()["detail"]) == (503, FULL)
            assert int(answer.headers["retry-after"]) >= 1
            refused += 1
        await asyncio.sleep(0.05)


@pytest.mark.timeout(300)  # on a busy machine; otherwise some 10 s
@pytest.mark.parametrize(("disk", "full"), [(True, filled), (False, limited)], ids=["full", "limit"])
async def test_a_full_disk_under_load(
    *,
    disk: bool,
    full: Callable[[Path, ServerProcess], contextlib.AbstractContextManager[None]],
    tmp_path: Path,
    seed: int,
) -> None:
    """Commands are refused with a clear problem and reading goes on; with room all goes on, and nothing is lost."""
    chance = random.Random(seed)
    line = Line()
    talks = {Talk(line, random.Random(chance.random())): play for play in PLAYS}
    folder = tmp_path / "disk"
    databases = DatabaseUrls(f"sqlite:///{folder}/agent.db", f"sqlite:///{folder}/auth.db")
    with contextlib.ExitStack() as stack:
        if disk:
            stack.enter_context(small_disk(folder))
        server = stack.enter_context(forked_server(tmp_path, databases))
        async with conversing(line, talks) as finish, asyncio.timeout(200):
            person = await line.connect(server)
            for _ in range(2):
                await line.events(chance.randrange(20, 200))
                with full(folder, server):
                    await be_refused(person, 10)
                    for talk in talks:
                        assert isinstance(await person.history(talk.session), list)
                await line.events(50)
            await finish(60)
            for talk in talks:
                await settle(person, talk.session)
                await prove(talk, person)
            assert not line.unanswered
            assert set(line.refusals) <= {FULL}
        log = server.log.read_text(encoding="utf-8")
        assert server.stop() == 0
        prove_whole(tmp_path, server_environ(tmp_path, databases))
    assert "Traceback" not in log


@pytest.fixture
async def model() -> AsyncIterator[Upstream]:
    """A model server."""
    async with run_upstream() as upstream:
        yield upstream


async def test_no_model_is_asked_in_vain(model: Upstream, tmp_path: Path) -> None:
    """Its first word cannot be kept: it is asked again only when what it says can be."""
    databases = DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db")
    full = asyncio.Event()
    model.play(full, event(chunk("lost")))
    model.play(text_answer("kept"))
    with forked_server(
        tmp_path, databases, AGENT_RUNTIME__LLM_PROXY_URL=model.url, AGENT_RUNTIME__LLM_MODEL="test-model"
    ) as server:
        async with server.login() as http, asyncio.timeout(60):
            person = Person(http, "admin")
            session = await person.session(agent="ask")
            await person.say(session, "say something")
            while not model.bodies:
                await asyncio.sleep(0.01)
            with limited(tmp_path, server):
                full.set()
                while server.log.read_text(encoding="utf-8").count("a turn waits for the database") < 3:
                    await asyncio.sleep(0.05)
                assert len(model.bodies) == 1
            events = await person.until(session, *END)

    assert events[-1].type == "turn.completed"
    assert len(model.bodies) == 2
