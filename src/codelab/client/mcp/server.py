"""One server of the person: its process, started at need, and asked by many at once.

One task opens, holds and closes the connection, as the SDK demands.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any

from codelab.client.mcp.listed import MAX_TOOLS, describe_tools
from codelab.client.tools.errors import ToolError
from codelab.mcpclient import asking, narrow_environment
from codelab.mcpclient.transport import StdioTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from typing import TypeVar

    from mcp.client import ClientSession

    from codelab.mcpclient import StdioServer
    from codelab.mcpclient.asking import Answer

    T = TypeVar("T")

__all__ = ("Server",)

#: Seconds for a server to begin, to tell its tools, and for a call.
START_SECONDS, LIST_SECONDS, CALL_SECONDS = 30.0, 5.0, 300.0
#: Times that a server is started in so many seconds.
MAX_STARTS, START_WINDOW = 3, 60.0
#: Bytes of a result that are kept.
MAX_RESULT = 1024 * 1024
#: Bytes of one line of a server: a result with its JSON escapes, or a picture that nobody is shown.
MAX_LINE = 8 * MAX_RESULT
#: Bytes of what a server said last on stderr, which are shown where it does not begin.
MAX_HEARD = 400


class Server:
    """Run a server while somebody needs it; a call has ``call_seconds``."""

    def __init__(self, spec: StdioServer, environ: Mapping[str, str], *, call_seconds: float = CALL_SECONDS) -> None:
        self.name = spec.name
        self._spec = spec
        self._environ = environ
        self._call_seconds = call_seconds
        self._starts: deque[float] = deque(maxlen=MAX_STARTS)
        self._session: ClientSession | None = None
        self._transport: StdioTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._error = ""
        self._heard = bytearray()

    async def tools(self) -> list[dict[str, Any]]:
        """Return its tools in MCP's own shape.

        Raises:
            ToolError: it does not start, or gives no answer.
        """
        session = await self._connected()
        listed = asking.list_tools(session, enough=MAX_TOOLS)
        return describe_tools(await self._ask(listed, LIST_SECONDS, "telling its tools"))

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Call a tool.

        Raises:
            ToolError: it does not start, or gives no answer; nobody knows then whether it did something.
        """
        session = await self._connected()
        seconds = self._call_seconds
        called = asking.call_tool(session, name, arguments, seconds=seconds, most=MAX_RESULT)
        try:
            return await self._ask(called, seconds, "the call")
        except ToolError as error:
            raise ToolError(f"{error} Nobody knows whether it did something. Look before you repeat it.") from None

    async def stop(self) -> None:
        """End its process; it takes a few seconds where it does not want to, and less when this is cancelled."""
        self._stop.set()
        if self._task is None:
            return
        if self._session is None:  # it begins, and sees nothing else
            self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise

    async def _ask(self, question: Awaitable[T], seconds: float, doing: str) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await question
        except TimeoutError:
            raise ToolError(f"The MCP server {self.name} took longer than {seconds:g} seconds for {doing}.") from None
        except Exception:  # noqa: BLE001 - the SDK, its libraries, a server: all means the same
            how = "gave no valid answer" if self._runs() else "ended meanwhile"
            raise ToolError(f"The MCP server {self.name} {how}: {doing} brought nothing.") from None

    async def _connected(self) -> ClientSession:
        """Return the session with it; start it where it does not run, but not again and again."""
        if self._stop.is_set():
            raise ToolError(f"The MCP server {self.name} was ended with the chat.")
        if self._task is not None and self._ready.is_set() and not self._runs():
            await asyncio.wait({self._task})  # it is being ended
        if self._task is None or self._task.done():
            at = time.monotonic()
            if len(self._starts) == MAX_STARTS and at - self._starts[0] < START_WINDOW:
                left = START_WINDOW - (at - self._starts[0])
                ends = f"it ended {MAX_STARTS} times. It can be started again in {left:.0f} seconds"
                raise ToolError(f"The MCP server {self.name} does not run: {ends}. {self._error}".rstrip())
            self._starts.append(at)
            self._ready.clear()
            self._task = asyncio.create_task(self._run(), name=f"mcp-{self.name}")
        await self._ready.wait()
        if self._session is None:
            raise ToolError(self._error)
        return self._session

    def _runs(self) -> bool:
        return self._session is not None and self._transport is not None and not self._transport.ended.is_set()

    async def _run(self) -> None:
        self._heard.clear()
        self._error = ""
        environment = narrow_environment(self._environ, self._spec.env)
        self._transport = transport = StdioTransport(self._spec, environment, most=MAX_LINE, heard=self._hear)
        ran = False
        try:
            # It takes more than half a second, in which a person may type.
            await asyncio.to_thread(import_module, "mcp.client")
            from mcp.client import Client

            async with asyncio.timeout(START_SECONDS) as limit, Client(transport, cache=None) as client:
                limit.reschedule(None)
                self._session = client.session
                self._ready.set()
                ran = True
                await self._until_end(transport.ended)
        except TimeoutError:
            self._error = f"The MCP server {self.name} did not begin within {START_SECONDS:g} seconds."
        except OSError as error:
            self._error = f"The MCP server {self.name} cannot be started: {error.strerror or type(error).__name__}."
        except Exception:  # noqa: BLE001 - as in _ask
            if not ran:
                self._error = f"The MCP server {self.name} ended, or gave no valid answer, at its start."
        finally:
            self._session = None
            self._error = (self._error or f"The MCP server {self.name} has ended.") + self._last_words()
            self._ready.set()

    async def _until_end(self, ended: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (ended, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session = None
            for wait in waits:
                wait.cancel()

    def _hear(self, piece: bytes) -> None:
        self._heard += piece
        del self._heard[:-MAX_HEARD]

    def _last_words(self) -> str:
        said = self._heard.decode("utf-8", "replace").strip()
        return f" It said: {said}" if said else ""
