"""MCP servers made with the official SDK: an honest one over streamable HTTP, and what a lying one says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mcp_types as types
import uvicorn
from mcp.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ("ADD", "McpServer", "run_mcp_server", "tool")


def tool(name: str, schema: dict[str, Any] | None = None, *, safe: bool = False, description: str = "") -> types.Tool:
    """Describe a tool."""
    hints = types.ToolAnnotations(read_only_hint=safe)
    return types.Tool(
        name=name, description=description, input_schema={"type": "object"} | (schema or {}), annotations=hints
    )


ADD = tool(
    "add",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    description="Add two numbers.",
)


@dataclass
class McpServer:
    """A server: ``tools`` is what it offers now, ``calls`` what it was asked, ``tokens`` what it was shown.

    ``asked`` are the paths of its requests; ``moved`` says where a path leads to, and with which status.
    """

    url: str
    place: str
    tools: list[types.Tool] = field(default_factory=lambda: [ADD])
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    moved: dict[str, tuple[int, str]] = field(default_factory=dict)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Do what a tool does."""
        self.calls.append((name, arguments))
        self.called.set()
        match name:
            case "add":
                return said(str(arguments["a"] + arguments["b"]))
            case "hang":
                await self.go_on.wait()
                return said("at last")
            case "huge":
                return said("x" * arguments["size"])
            case "fail":
                return types.CallToolResult(content=[types.TextContent(text="No such city.")], is_error=True)
            case "picture":
                return types.CallToolResult(content=[types.ImageContent(data="AAAA", mime_type="image/png")])
            case _:
                return said(f"{name} did it")


def said(text: str) -> types.CallToolResult:
    """Make a result that is text."""
    return types.CallToolResult(content=[types.TextContent(text=text)])


async def redirect(send: Any, status: int, location: str) -> None:
    """Answer that what was asked for is elsewhere."""
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals belong to pytest


@asynccontextmanager
async def run_mcp_server(port: int = 0) -> AsyncIterator[McpServer]:
    """Serve on a loopback port, a free one unless it is named."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        here = McpServer(f"http://{place}/mcp", place)

        async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
            return types.ListToolsResult(tools=here.tools)

        async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            return await here.answer(params.name, params.arguments or {})

        server: Server[Any] = Server("tests", on_list_tools=list_tools, on_call_tool=call_tool)
        inner = server.streamable_http_app()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = dict(scope["headers"])
                here.tokens.add(headers[b"authorization"].decode() if b"authorization" in headers else None)
                here.asked.append(scope["path"])
                if (moved := here.moved.get(scope["path"])) is not None:
                    await redirect(send, *moved)
                    return
            await inner(scope, receive, send)

        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, lifespan="on")
        running = _Uvicorn(config)
        task = asyncio.create_task(running.serve(sockets=[listener]))
        try:
            yield here
        finally:
            here.go_on.set()
            running.should_exit = True
            await task
