"""A person's own MCP servers in real chats at a real server: calls, a chat that is killed, two chats of one session."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.providers.upstream import run_upstream, text_answer
from tests.agent.transcripts import call, calls_answer
from tests.support.process import PASSWORD, clean_environ, server_process
from tests.support.server import Event, Person
from tests.support.stdio_server import STDIO_SERVER, alive, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls

DEADLINE = 90


@pytest.fixture
async def model() -> AsyncIterator[Upstream]:
    """A model that says what the test wants."""
    async with run_upstream() as upstream:
        yield upstream


def model_settings(model: Upstream) -> dict[str, Any]:
    """Let a server use it."""
    return {
        "AGENT_RUNTIME__LLM_PROXY_URL": model.url,
        "AGENT_RUNTIME__LLM_MODEL": "m",
        "AGENT_RUNTIME__ROUTING": "keywords",
        "AGENT_RUNTIME__CLAIM_GRACE_SECONDS": "0.5",
    }


def servers_file(folder: Path, tools: str) -> Path:
    """Write a file with one server that has these tools, and notes its process."""
    (folder / "tools").write_text(tools)
    command = f'echo $$ >> "{folder}/pids"; exec "$@"'
    server = {
        "command": "/bin/sh",
        "args": ["-c", command, "sh", *STDIO_SERVER],
        "env": {"TOOLS": str(folder / "tools")},
    }
    file = folder / "servers.json"
    file.write_text(json.dumps({"mcpServers": {"sums": server}}))
    return file


def pids(folder: Path) -> list[int]:
    """Return the processes of the server."""
    file = folder / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@asynccontextmanager
async def chat(url: str, folder: Path, home: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a chat that allows all calls; the password is on its standard input."""
    folder.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "codelab", "chat", "--url", url, "--approve", "all"),
        *("--username", "admin", "--password-stdin", *arguments),
        cwd=folder,
        env=clean_environ(home, CODELAB_DATA_DIR=str(folder.parent / f"{folder.name}-data")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(f"{PASSWORD}\n".encode())
    process.stdin.close()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a type."""
    return [event.data for event in events if event.type == kind]


async def test_an_agent_uses_a_persons_own_server(
    databases: DatabaseUrls, tmp_path: Path, home: Path, model: Upstream
) -> None:
    """The model sees its tools and its answers; when the chat leaves, the session has them no more."""
    model.play(calls_answer(call("mcp__sums__add", {"a": 2, "b": 40}, id="sum")))
    model.play(text_answer("It is 42."))
    file = servers_file(tmp_path, "add")
    arguments = ("--agent", "coder", "--prompt", "add", "--json", "--mcp-file", str(file))
    with server_process(tmp_path, databases, **model_settings(model)) as server:
        async with chat(server.url, tmp_path / "project", home, *arguments) as process, asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
        assert process.returncode == 0, err
        session = json.loads(out)["session_id"]
        async with server.login() as http:
            left = (await http.get(f"/api/v1/sessions/{session}/mcp-servers")).json()["mcp_servers"]

    assert json.loads(out)["answer"] == "It is 42."
    assert model.bodies[0]["tools"][-1]["function"]["name"] == "mcp__sums__add"
    assert model.bodies[1]["messages"][-1]["content"] == "42"
    assert left == []
    assert not any(map(alive, pids(tmp_path)))


async def test_a_killed_chat_and_another_one_of_its_session(
    databases: DatabaseUrls, tmp_path: Path, home: Path, model: Upstream
) -> None:
    """Kill -9 in a call: its server ends, the call is not made again, and another chat brings the server anew.

    A chat without the server leaves the calls of its tools alone.
    """
    model.play(calls_answer(call("mcp__sums__hang", {}, id="hang")))
    model.play(calls_answer(call("mcp__sums__add", {"a": 2, "b": 40}, id="sum")))
    model.play(text_answer("It is 42."))
    model.play(text_answer("Hello."))
    named = ("--mcp-file", str(servers_file(tmp_path, "add\nhang")))
    with server_process(tmp_path, databases, **model_settings(model)) as server:
        async with server.login() as http, asyncio.timeout(DEADLINE):
            ada = Person(http, "admin")
            session = await ada.session(agent="coder")
            ways = ("--session", session, "--prompt")
            async with chat(server.url, tmp_path / "one", home, *ways, "hang", *named) as first:
                await ada.until(session, "tool.claimed")
                first.kill()
                await first.wait()
            await until(lambda: not any(map(alive, pids(tmp_path))))
            # One without the server takes the turn up, and one that has it.
            async with (
                chat(server.url, tmp_path / "two", home, *ways, "hello", "--no-mcp") as bare,
                chat(server.url, tmp_path / "three", home, *ways, "hello", *named) as second,
            ):
                events = await ada.until(session, "turn.completed")
                await asyncio.gather(bare.communicate(), second.communicate())

    questions = [asked["request_type"] for asked in of(events, "approval.requested")]
    results = {data["call_id"]: data for data in of(events, "tool.completed")}
    assert questions == ["tool", "unknown_outcome", "tool"]
    assert "its outcome is unknown" in results["hang"]["error"]
    assert results["sum"]["result"] == "42"
    assert not any(map(alive, pids(tmp_path)))
