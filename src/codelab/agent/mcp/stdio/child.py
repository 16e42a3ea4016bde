"""One server of the operator: its process, started again when it ends, and the session with it that all share.

One task opens, holds and closes the connection, as the SDK demands; questions are asked from any task meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from codelab.agent.mcp.remote import ENOUGH, SLACK, McpFailed, list_tools
from codelab.agent.mcp.stdio.said import Said
from codelab.agent.mcp.tools import read_tools
from codelab.mcpclient import asking
from codelab.mcpclient.environment import narrow_environment
from codelab.mcpclient.transport import StdioTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.client import ClientSession

    from codelab.agent.mcp.tools import ForeignTool
    from codelab.mcpclient.file import StdioServer

__all__ = ("Child",)

logger = logging.getLogger(__name__)

#: Seconds until a server that ended is started again: twice as many each time, unless it had run for a while.
FIRST_PAUSE, LONGEST_PAUSE, A_WHILE = 0.5, 60.0, 60.0


class Child:
    """A server and what is known of it. Its process has ``seconds`` to begin, and ``most`` bytes for a result.

    ``tools`` are those that it told last, ``error`` says why it cannot be asked now. ``settled`` is set when it told
    them or failed to, and not while it begins, for the first time or after it had run.
    """

    def __init__(self, server: StdioServer, *, seconds: float, most: int) -> None:
        self.name = server.name
        self.id = f"operator:{server.name}"
        self.tools: tuple[ForeignTool, ...] = ()
        self.error: str | None = f"The MCP server {server.name} has not begun yet."
        self.settled = asyncio.Event()
        self._server = server
        self._seconds = seconds
        self._most = 2 * most + SLACK
        self._session: ClientSession | None = None
        #: Questions that are asked now.
        self._open = 0
        self._ended: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether it can be asked now."""
        return self._session is not None

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep(), name=f"codelab-mcp-{self.name}")

    async def stop(self) -> None:
        """End its process; takes a few seconds where it does not want to."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @asynccontextmanager
    async def connect(self, most: int) -> AsyncIterator[ClientSession]:  # noqa: ARG002 - the process has its own bound
        """Give the session; that with a server which is started again is waited for.

        Raises:
            McpFailed: it could not be started.
        """
        if self._session is None:
            await self.settled.wait()
        if self._session is None:
            raise McpFailed(self.error or self._broken())
        self._open += 1
        try:
            yield self._session
        finally:
            self._open -= 1

    async def relist(self) -> bool:
        """Ask for its tools anew, and tell whether it answered; what was known stays where it does not.

        One that gives no answer while it has nothing else to do is ended, and so started again.
        """
        run = self._ended
        try:
            found = await list_tools(self)
        except McpFailed as failed:
            self.error = str(failed)
            if run is not None and not self._open:
                run.set()
            return False
        self._learn(found)
        return True

    def _learn(self, found: list[object]) -> None:
        self.tools, self.error = tuple(read_tools(self.name, self.id, found)), None

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._run()
                self.error = self._broken()
            except McpFailed as failed:
                self.error = str(failed)
                self.settled.set()
            failures = 1 if time.monotonic() - began >= A_WHILE else failures + 1
            pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
            logger.warning("%s It is started again in %g seconds.", self.error, pause)
            await asyncio.sleep(pause)

    async def _run(self) -> None:
        """Run it to its end; raise ``McpFailed`` where it does not begin."""
        from mcp.client import Client

        said = Said(self._server)
        environment = narrow_environment(os.environ, self._server.env)
        transport = StdioTransport(self._server, environment, most=self._most, heard=said.hear)
        ran = False
        try:
            async with asyncio.timeout(self._seconds) as limit, Client(transport, cache=None) as client:
                self._learn(await asking.list_tools(client.session, enough=ENOUGH))
                limit.reschedule(None)
                ran = True
                await self._hold(client.session, transport.ended)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next start is tried
            if not ran:
                raise McpFailed(f"The MCP server {self.name} {self._why(error)}.") from None
        finally:
            said.end()

    async def _hold(self, session: ClientSession, ended: asyncio.Event) -> None:
        self._session, self._ended = session, ended
        self.settled.set()
        try:
            await ended.wait()
        finally:
            self._session = self._ended = None
            self.settled.clear()

    def _why(self, error: Exception) -> str:
        match error:
            case TimeoutError():
                return f"did not begin within {self._seconds:g} seconds"
            case OSError():
                return f"cannot be started: {error.strerror or type(error).__name__}"
            case _:  # the SDK, its libraries, a stranger's server: all means the same
                return "ended, or gave no valid answer, at its start"

    def _broken(self) -> str:
        return f"The MCP server {self.name} has ended."
