"""Processes of MCP servers: what is said to them and by them, in bounds, and that none of them is left."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from codelab.mcpclient import StdioServer, narrow_environment
from codelab.mcpclient.transport import StdioTransport
from tests.support.stdio_server import STDIO_SERVER, alive, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp.client import Client

MOST = 256 * 1024


class Run:
    """A server's run, and what it said on stderr."""

    def __init__(self, folder: Path, *modes: str, tools: str = "add", command: str = STDIO_SERVER[0]) -> None:
        (folder / "tools").write_text(tools)
        self.child = folder / "child"
        env = {"TOOLS": str(folder / "tools"), "CHILD": str(self.child)}
        server = StdioServer("tests", command, (*STDIO_SERVER[1:], *modes), env, str(folder))
        self.heard = bytearray()
        self.transport = StdioTransport(server, narrow_environment(os.environ, env), most=MOST, heard=self.heard.extend)

    @property
    def pid(self) -> int:
        """The process."""
        return self.transport._process.pid

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """Run it, and speak to it."""
        from mcp.client import Client

        async with Client(self.transport, cache=None) as client:
            yield client

    async def fail_to_connect(self) -> None:
        """Run one that does not speak."""
        with pytest.raises(Exception):  # noqa: B017, PT011 - the SDK has many; each says the same
            async with asyncio.timeout(30), self.connect():
                pass


async def call(client: Client, name: str, **arguments: Any) -> str:
    """Call a tool, and return its text."""
    result = await client.call_tool(name, arguments)
    return str(result.content[0].text)  # type: ignore[union-attr]


async def test_an_honest_server(tmp_path: Path) -> None:
    """Runs in its folder with its arguments and a narrow environment, and ends when it is left."""
    run = Run(tmp_path, "plain", tools="add\nplace\nenvironment")
    async with run.connect() as client:
        assert await call(client, "add", a=2, b=40) == "42"
        assert json.loads(await call(client, "place")) == [str(tmp_path), run.pid, "plain"]
        seen = json.loads(await call(client, "environment"))
        assert alive(run.pid)
    assert not alive(run.pid)
    assert set(seen) <= {
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "USER",
        "LC_CTYPE",
        "LC_ALL",
        "TOOLS",
        "CHILD",
    }


async def test_greetings_and_warnings_are_no_messages(tmp_path: Path) -> None:
    """A few lines of something else on stdout do no harm, and much on stderr does not stop the server."""
    run = Run(tmp_path, "greeting", "shouting")
    async with run.connect() as client:
        assert await call(client, "add", a=1, b=1) == "2"
    assert len(run.heard) > 1_000_000


@pytest.mark.parametrize("mode", ["exit", "endless", "noise", "orphaning"])
async def test_a_server_that_does_not_speak_the_protocol_ends(tmp_path: Path, mode: str) -> None:
    """Who waits for it learns that; nothing is kept of a line without an end, and no process is left."""
    run = Run(tmp_path, mode)
    await run.fail_to_connect()
    assert run.transport.ended.is_set()
    assert not alive(run.pid)
    assert mode != "exit" or bytes(run.heard) == b"no such configuration\n"


@pytest.mark.parametrize("mode", ["mute", "stubborn"])
async def test_a_server_that_never_answers_is_ended(tmp_path: Path, mode: str) -> None:
    """By the end of its stdin, or by force, when nobody waits for it any more."""
    run = Run(tmp_path, mode)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), run.connect():
            pass
    assert not alive(run.pid)


async def test_a_server_that_dies_in_a_call(tmp_path: Path) -> None:
    """The call fails at once, and its end is told."""
    run = Run(tmp_path, tools="die")
    async with run.connect() as client:
        with pytest.raises(Exception, match="closed"):
            await call(client, "die")
        await asyncio.wait_for(run.transport.ended.wait(), 20)
    assert not alive(run.pid)


async def test_a_line_has_a_bound(tmp_path: Path) -> None:
    """An answer within it comes whole; a longer one is an error to who asked, and nobody else notices."""
    run = Run(tmp_path, tools="huge\nadd\nhang")
    async with run.connect() as client:
        assert await call(client, "huge", size=MOST - 4096) == "x" * (MOST - 4096)
        waiting = asyncio.create_task(call(client, "hang"))
        for size in (MOST, 10 * MOST):
            with pytest.raises(Exception, match="too large"):
                await call(client, "huge", size=size)
        assert await call(client, "add", a=1, b=2) == "3"
        assert not waiting.done()
        with pytest.raises(Exception, match="closed"):
            await call(client, "huge", size=20 * MOST)
        with pytest.raises(Exception, match="closed"):
            await waiting


async def test_what_a_server_started_ends_with_it(tmp_path: Path) -> None:
    """Its children hold its pipes, and are in its process group."""
    run = Run(tmp_path, "parent")
    async with run.connect():
        child = int(run.child.read_text())
        assert alive(child)
    await until(lambda: not alive(child))


async def test_cancelling_leaves_no_process(tmp_path: Path) -> None:
    """Neither does cancelling again while the process is being ended."""
    run = Run(tmp_path, "stubborn")

    async def connect() -> None:
        async with run.transport:
            await asyncio.Event().wait()

    task = asyncio.create_task(connect())
    await until(lambda: hasattr(run.transport, "_listener"))
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(run.pid)


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """It is an error of the operating system, at once."""
    run = Run(tmp_path, command=str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        async with run.transport:
            pass
