"""Two chats in one session: each call runs in one of them, also when that one is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.forking import forked_server
from tests.support.process import PASSWORD, clean_environ, run_codelab
from tests.support.server import Event, Person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls
    from tests.support.process import ServerProcess

DEADLINE = 60
#: Notes that it has begun, waits for as long as there is a file `hold`, and notes that it is done.
WORK = "echo begun >> log\nwhile [ -e hold ]; do sleep 0.1; done\necho done >> log\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a program to run."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "work.sh").write_text(WORK, encoding="utf-8")
    return folder


@asynccontextmanager
async def chat(
    server: ServerProcess, session: str, project: Path, home: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a chat that takes up the session's turn and then sends a message of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "codelab", "chat", "--url", server.url, "--session", session),
        *("--prompt", "count to 2", "--approve", "all"),
        cwd=project,
        env=clean_environ(home),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def log_in(server: ServerProcess, project: Path, home: Path) -> None:
    """Let the chats of a home log in by themselves."""
    run_codelab(
        *("chat", "--url", server.url, "--username", "admin", "--password-stdin", "--prompt", "hello"),
        folder=project,
        environ=clean_environ(home),
        stdin=PASSWORD + "\n",
    )


async def ask_to_work(ada: Person) -> tuple[str, str]:
    """Make a session whose turn waits for a yes to its command; return it and the turn."""
    session = await ada.session(agent="coder")
    turn = (await ada.say(session, "run sh work.sh"))["turn_id"]
    await ada.until(session, "turn.waiting")
    return session, turn


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a type."""
    return [event.data for event in events if event.type == kind]


async def test_one_of_two_chats_runs_a_call(databases: DatabaseUrls, tmp_path: Path, project: Path, home: Path) -> None:
    """Both take the turn up and may run its command; one does, the other says so, and both go on afterwards."""
    (project / "hold").touch()
    with forked_server(tmp_path, databases) as server:
        await asyncio.to_thread(log_in, server, project, home)
        async with server.login() as http:
            ada = Person(http, "admin")
            session, turn = await ask_to_work(ada)
            async with chat(server, session, project, home) as one, chat(server, session, project, home) as two:
                notes = [process.stderr for process in (one, two) if process.stderr is not None]
                waiting = [asyncio.create_task(note.readuntil(b"another client runs this call")) for note in notes]
                async with asyncio.timeout(DEADLINE):
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    (project / "hold").unlink()
                    for task in waiting:
                        task.cancel()
                    await asyncio.gather(*waiting, return_exceptions=True)
                    ended = await asyncio.gather(one.communicate(), two.communicate())
            events = await ada.until(session, "turn.completed", turn=turn)

    assert (one.returncode, two.returncode) == (0, 0), ended
    assert (project / "log").read_text(encoding="utf-8") == "begun\ndone\n"
    assert len(of(events, "tool.claimed")) == len(of(events, "tool.completed")) == 1


async def test_a_killed_chat_runs_nothing_twice(
    databases: DatabaseUrls, tmp_path: Path, project: Path, home: Path
) -> None:
    """Kill -9 in the middle of a command: another chat does not run it again, and the model is told why."""
    (project / "hold").touch()
    with forked_server(tmp_path, databases, AGENT_RUNTIME__CLAIM_GRACE_SECONDS="1") as server:
        await asyncio.to_thread(log_in, server, project, home)
        async with server.login() as http, asyncio.timeout(DEADLINE):
            ada = Person(http, "admin")
            session, turn = await ask_to_work(ada)
            try:
                async with chat(server, session, project, home) as first:
                    while not (project / "log").exists():
                        await asyncio.sleep(0.05)
                    os.kill(first.pid, signal.SIGKILL)
                    await first.wait()
                async with chat(server, session, project, home) as second:
                    _, notes = await second.communicate()
                events = await ada.until(session, "turn.completed", turn=turn)
            finally:
                (project / "hold").unlink()  # what the killed chat had begun ends now

    assert second.returncode == 0, notes
    questions = [asked["request_type"] for asked in of(events, "approval.requested")]
    (result,) = of(events, "tool.completed")
    assert questions == ["tool", "unknown_outcome"]
    assert result["status"] == "failed"
    assert "its outcome is unknown" in result["error"]
    assert len(of(events, "tool.claimed")) == 1
    assert (project / "log").read_text(encoding="utf-8").count("begun") == 1
