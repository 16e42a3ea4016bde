"""All servers that the operator's file names: started beside this server, and ended with it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from codelab.agent.mcp.listings import MOMENT
from codelab.agent.mcp.stdio.child import Child
from codelab.agent.policy.rules import MCP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from codelab.agent.mcp.tools import ForeignTool
    from codelab.mcpclient.file import StdioServer

__all__ = ("Pool",)

logger = logging.getLogger(__name__)

#: Seconds after the start in which model calls wait, each for a moment, for servers that begin.
BEGINNING = 5.0


class Pool:
    """Hold the servers by their ids; the arguments are those of ``Child``."""

    def __init__(self, servers: Iterable[StdioServer], *, seconds: float, most: int) -> None:
        made = [Child(server, seconds=seconds, most=most) for server in servers]
        self.children = {child.id: child for child in made}
        self.names = {child.name: child for child in made}
        self._began = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start all, without waiting for one."""
        self._began = time.monotonic()
        self._task = asyncio.create_task(self._start(), name="codelab-mcp-pool")

    async def stop(self) -> None:
        """End all at once; it takes as long as the slowest, a few seconds at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self.children.values()))

    async def settle(self) -> None:
        """Wait a moment for servers that have not told their tools since the start; later nobody waits for them."""
        left = min(MOMENT, self._began + BEGINNING - time.monotonic())
        if left <= 0 or all(child.settled.is_set() for child in self.children.values()):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                for child in self.children.values():
                    await child.settled.wait()

    def find(self, tool_name: str) -> Child | None:
        """Return the server whose tool this would be by its name."""
        return self.names.get(tool_name.removeprefix(MCP).partition("__")[0])

    def tools(self) -> dict[str, ForeignTool]:
        """Return what all offer, by name, in the order of the file."""
        return {tool.name: tool for child in self.children.values() for tool in child.tools}

    def asks(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        """Return what asks those that run for their tools, by their ids."""
        return {child.id: child.relist for child in self.children.values() if child.runs}

    async def _start(self) -> None:
        try:
            # It takes more than half a second, in which the event loop has other things to do.
            await asyncio.to_thread(import_module, "mcp.client")
        except ImportError:
            logger.exception("the SDK of MCP cannot be loaded, so no MCP server is started")
            return
        for child in self.children.values():
            child.start()
