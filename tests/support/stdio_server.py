"""An MCP server over stdio, as a program of its own: an honest one made with the official SDK, or one that lies.

``python -P stdio_server.py [MODE]``. The environment variable ``TOOLS`` names a file with the names of its tools, one a
line; without it the server has ``add``. Whatever the mode, its process group is its own to leave behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp_types as types

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("STDIO_SERVER", "alive", "children", "until")

#: A command line, without the mode; modules beside this file have the names of others.
STDIO_SERVER = (sys.executable, "-P", str(Path(__file__).resolve()))


def alive(pid: int) -> bool:
    """Tell whether a process is there, and not only what is left of one until somebody asks how it ended."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no Linux, or just gone
        return not Path("/proc/self/stat").exists()


def children(pid: int | None = None) -> list[int]:
    """Return the MCP servers that a process has started; by default this one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == (pid or os.getpid()) and Path(__file__).name.encode() in command:
            found.append(int(status.parent.name))
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def lie(mode: str) -> None:  # noqa: C901 - one case for each lie
    """Do what a server must not; returns where it is honest afterwards."""
    match mode:
        case "exit":
            sys.stderr.write("no such configuration\n")
            sys.exit(3)
        case "mute":
            sys.stdin.read()
        case "stubborn":  # neither the end of stdin nor SIGTERM ends it
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        case "endless":  # a line that never ends
            while True:
                os.write(1, b"x" * 65536)
        case "noise":  # lines that are no messages, for ever
            while True:
                os.write(1, b"still starting\n" * 1000)
        case "greeting":
            os.write(1, b"Welcome!\n{}\n[]\n\n")
        case "shouting":
            sys.stderr.write("warning: something\n" * 100_000)
        case "leaky":
            sys.stderr.write(f"my token is {os.environ['TOKEN']}\x1b[2J\n" + "x" * 100_000 + "\n")
        case "orphaning":  # it ends, and what it started holds its pipes
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            sys.exit(0)
        case "parent":  # what it starts holds its pipes
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(os.environ["CHILD"]).write_text(str(child.pid))
        case _:
            pass


async def act(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    """Do what a tool does."""
    import anyio

    failed = False
    match name:
        case "add":
            text = str(arguments["a"] + arguments["b"])
        case "environment":
            text = json.dumps(dict(os.environ))
        case "place":
            text = json.dumps([str(Path.cwd()), os.getpid(), *sys.argv[1:]])
        case "hang":
            await anyio.sleep(600)
            text = "at last"
        case "wait":  # it is written down that it was called, and another file lets it end
            calls = Path(os.environ["CALLS"])
            calls.write_text((calls.read_text() if calls.exists() else "") + "wait\n")
            while not calls.with_suffix(".go").exists():
                await anyio.sleep(0.02)
            text = "at last"
        case "die":
            os._exit(7)
        case "huge":
            text = "x" * int(arguments["size"])
        case "fail":
            text, failed = "No such city.", True
        case "picture":
            return types.CallToolResult(content=[types.ImageContent(data="AAAA", mime_type="image/png")])
        case _:
            text = f"{name} did it"
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=failed)


async def serve() -> None:
    """Be honest."""
    from mcp.server import Server
    from mcp.server.stdio import stdio_server

    numbers = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }

    def describe(line: str) -> types.Tool:
        name, _, hint = line.partition(" ")
        schema = numbers if name == "add" else {"type": "object"}
        hints = types.ToolAnnotations(read_only_hint=hint == "safe")
        return types.Tool(name=name, description=f"Do {name}.", input_schema=schema, annotations=hints)

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        file = os.environ.get("TOOLS")
        lines = Path(file).read_text().split("\n") if file else ["add"]
        return types.ListToolsResult(tools=[describe(line) for line in lines if line])

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await act(params.name, params.arguments or {})

    server: Server[Any] = Server("tests", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    for given in sys.argv[1:]:
        lie(given)
    asyncio.run(serve())
