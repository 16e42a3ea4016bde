"""The operator's MCP servers beside a real ``codelab serve``: what its end, of any kind, means to them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.mcp import allow, completed, is_question
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer
from tests.support.process import clean_environ, run_codelab, server_process
from tests.support.server import Person
from tests.support.stdio_server import STDIO_SERVER, alive, children, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.process import ServerProcess


@contextmanager
def started(
    folder: Path, databases: DatabaseUrls, model: Upstream, **servers: dict[str, Any]
) -> Iterator[tuple[ServerProcess, Person]]:
    """Serve with these servers, and log in."""
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    with server_process(
        folder,
        databases,
        AGENT_RUNTIME__MCP_FILE="mcp.json",
        AGENT_RUNTIME__LLM_PROXY_URL=model.url,
        AGENT_RUNTIME__LLM_MODEL="test-model",
        AGENT_RUNTIME__LLM_API_KEY="sk-test",
        AGENT_RUNTIME__ROUTING="keywords",
        AGENT_RUNTIME__CLAIM_GRACE_SECONDS="0.2",
        AGENT_RUNTIME__LEASE_SECONDS="1",
    ) as server:
        yield server, Person(server.login(), "admin")


def program(folder: Path, *modes: str, tools: str = "add") -> dict[str, Any]:
    """Describe a server as the file does."""
    (folder / "tools").write_text(tools)
    env = {"TOOLS": str(folder / "tools"), "CALLS": str(folder / "calls"), "CHILD": str(folder / "child")}
    return {"command": STDIO_SERVER[0], "args": [*STDIO_SERVER[1:], *modes], "env": env}


@pytest.mark.parametrize("safe", [False, True], ids=["once", "safe"])
async def test_a_call_outlives_the_server_that_was_killed(
    databases: DatabaseUrls, tmp_path: Path, model: Upstream, safe: bool
) -> None:
    """Its process has ended with it; what may run twice runs again, about anything else a person is asked."""
    calls = tmp_path / "calls"
    slow = program(tmp_path, tools="wait safe" if safe else "wait")
    model.play(calls_answer(call("mcp__slow__wait", {}, id="wait")))
    model.play(text_answer("Done."))
    with started(tmp_path, databases, model, slow=slow) as (server, ada):
        await until(lambda: len(children(server.process.pid)) == 1)
        session = await ada.session(agent="coder")
        await allow(ada, session)
        await ada.say(session, "go")
        await until(calls.exists)
        (process,) = children(server.process.pid)
        server.kill()
        await until(lambda: not alive(process))
        await ada.http.aclose()
    (tmp_path / "calls.go").touch()
    with started(tmp_path, databases, model, slow=slow) as (server, ada):
        if not safe:
            question = (await ada.events(session, is_question))[-1].data
            assert calls.read_text() == "wait\n"
            await ada.decide(session, question["approval_id"], "approve")
        events = await ada.until(session, *END)
        await ada.http.aclose()
        assert server.stop() == 0

    assert calls.read_text() == "wait\nwait\n"
    assert completed(events)["wait"]["result"] == "at last"
    assert [e.data["attempt"] for e in events if e.type == "tool.claimed"] == [1, 2]


async def test_no_process_is_left(databases: DatabaseUrls, tmp_path: Path, model: Upstream) -> None:
    """SIGTERM ends all servers at once, those that are busy, do not want to, or never spoke, and what they started."""
    servers = {
        "honest": program(tmp_path),
        "stubborn": program(tmp_path, "stubborn"),
        "also": program(tmp_path, "stubborn"),
        "mute": program(tmp_path, "mute"),
        "parent": program(tmp_path, "parent"),
        "endless": program(tmp_path, "endless"),
        "exit": program(tmp_path, "exit"),
        "absent": {"command": str(tmp_path / "absent")},
    }
    with started(tmp_path, databases, model, **servers) as (server, ada):
        await ada.http.aclose()
        await until(lambda: len(children(server.process.pid)) >= 5 and (tmp_path / "child").exists())
        pids = [*children(server.process.pid), int((tmp_path / "child").read_text())]
        assert await asyncio.to_thread(server.stop) == 0
    log = server.log.read_text()

    assert not [pid for pid in pids if alive(pid)]
    assert "The MCP server absent cannot be started: No such file or directory." in log
    assert "the MCP server exit says: no such configuration" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"mcpServers": {"git": {"command": "git", "args": ["a", 1]}}}', "mcpServers.git.args[1]: must be a string"),
        ('{"mcpServers": {"git": {"command": "git", "shell": true}}}', 'mcpServers.git: has an unknown member "shell"'),
        ('{"mcpServers": {"Git": {"command": "git"}}}', 'mcpServers."Git": a server\'s name must have'),
        ('{"mcpServers": {"git": {"url": "https://example.com"}}}', "mcpServers.git: only servers that run as a proc"),
        ("{", "line 1: is not JSON"),
        (None, "is not there"),
    ],
)
def test_a_file_that_is_wrong_is_refused_at_the_start(tmp_path: Path, content: str | None, said: str) -> None:
    """With one line that names the variable, the file and the member."""
    if content is not None:
        (tmp_path / "mcp.json").write_text(content)
    environ = clean_environ(tmp_path, AGENT_RUNTIME__MCP_FILE="mcp.json")
    answer = run_codelab("serve", "--port", "0", folder=tmp_path, environ=environ)

    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("codelab: AGENT_RUNTIME__MCP_FILE: mcp.json")
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_nothing_of_it_is_loaded_without_a_file(tmp_path: Path) -> None:
    """A server without MCP servers starts as soon, and takes as little, as before there were any."""
    program = (
        "import sys, codelab.app, codelab.agent.module as m; from codelab.settings import Settings;"
        "codelab.app.create_app(Settings.from_environ({}), issuer='http://127.0.0.1:1');"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in {'mcp', 'mcp_types'} or 'stdio' in n))"
    )
    environ = clean_environ(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
