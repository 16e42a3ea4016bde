"""One run of a server: its process, and messages as lines on its stdin and stdout, in bounds.

The SDK's own transport reads a line of any length. This one also says that a server is gone (``ended``), tells what
comes on stderr, and ends the whole process group, however it is itself ended. One task enters and leaves it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from codelab.mcpclient.lines import Endless, Lines, TooLong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from mcp.client._transport import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

    from codelab.mcpclient.file import StdioServer

__all__ = ("StdioTransport",)

#: Seconds for a server to end after its stdin is closed, after SIGTERM, and to be seen as ended after SIGKILL.
GRACE = 1.0
#: Seconds to write what is still to be written, and for the rest of what a process that ended had said.
FLUSH, DRAIN = 0.3, 0.3
#: Seconds between two looks at whether a process is there, while it ends and while it works.
POLL, WATCH = 0.01, 0.2
CHUNK = 64 * 1024
#: Lines one after another that are no message; servers print greetings, but not for ever.
MAX_JUNK = 100


class StdioTransport:
    """Run a server, as a transport of the SDK: ``async with Client(StdioTransport(…))``.

    An answer of more than ``most`` bytes is an error, any other line of that size ends the connection. ``heard`` is
    told what comes on stderr, in pieces. Entering raises ``OSError`` when the process cannot be started. Leaving takes
    at most about four seconds.
    """

    def __init__(
        self, server: StdioServer, environment: Mapping[str, str], *, most: int, heard: Callable[[bytes], None]
    ) -> None:
        self._server = server
        self._environment = environment
        self._most = most
        self._heard = heard
        #: The server is gone, or says what is no message.
        self.ended = asyncio.Event()
        self._lied = False

    async def __aenter__(self) -> tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]:
        """Start the process; the streams are those of the SDK."""
        import anyio
        from mcp.shared.message import SessionMessage

        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            self._server.command,
            *self._server.args,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self._server.cwd,
            env=dict(self._environment),
            start_new_session=True,
        )
        # Nothing awaits from here to the end: a cancellation would leave the process behind.
        self._came, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        # Room for some, so that nobody waits to tell a server that reads nothing that its call is cancelled.
        outgoing, self._goes = anyio.create_memory_object_stream[SessionMessage](64)
        self._ends: tuple[Any, ...] = (incoming, outgoing)
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())
        self._listener = asyncio.create_task(self._listen())
        self._watcher = asyncio.create_task(self._watch())
        return incoming, outgoing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and all that it started in its group, also when this task is cancelled meanwhile."""
        import anyio

        with anyio.CancelScope(shield=True):
            closing = asyncio.create_task(self._close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                self._signal(signal.SIGKILL)
                await closing
                raise

    async def _read(self) -> None:
        """Hand on messages; what comes after the session has gone, or after a lie, is read and dropped."""
        import anyio

        out = self._process.stdout
        assert out is not None
        lines, junk = Lines(self._most), 0
        try:
            while chunk := await out.read(CHUNK):
                if self.ended.is_set():
                    continue
                for line in lines.add(chunk):
                    if (message := _parse(line)) is not None:
                        junk = 0
                        await self._came.send(message)
                    elif isinstance(line, TooLong) or (line.strip() and (junk := junk + 1) > MAX_JUNK):
                        self._lie()
                        break
        except Endless:
            self._lie()
            while await out.read(CHUNK):
                pass
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._end()
            while await out.read(CHUNK):
                pass
        except OSError:
            pass
        finally:
            self._end()

    async def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            async for message in self._goes:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                stdin.write(line.encode() + b"\n")
                await stdin.drain()
        except (OSError, ValueError):
            self._end()

    async def _listen(self) -> None:
        err = self._process.stderr
        assert err is not None
        with suppress(OSError):
            while chunk := await err.read(CHUNK):
                self._heard(chunk)

    async def _watch(self) -> None:
        """See that the process is gone, also where something that it started still holds its pipes."""
        while self._process.returncode is None:  # noqa: ASYNC110 - `wait` waits for the pipes as well
            await asyncio.sleep(WATCH)
        await asyncio.wait({self._reader}, timeout=DRAIN)
        self._end()

    def _lie(self) -> None:
        """End the connection with a server that does not keep to the protocol, which gets no time for its end."""
        self._lied = True
        self._end()

    def _end(self) -> None:
        """Let the session see that nothing comes any more, instead of waiting."""
        self.ended.set()
        self._came.close()

    async def _close(self) -> None:
        process, stdin = self._process, self._process.stdin
        assert stdin is not None
        try:
            for end in self._ends:
                end.close()
            await asyncio.wait({self._writer}, timeout=FLUSH)
            stdin.close()
            if not self._lied:
                await self._wait(GRACE)
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.returncode is None:
                    self._signal(number)
                    await self._wait(GRACE)
            listening = {self._reader, self._listener}
            _, open_ends = await asyncio.wait(listening, timeout=DRAIN)
            if open_ends:
                # Somebody of the group still holds a pipe, so the number of the group is still the server's.
                self._signal(signal.SIGKILL)
                await asyncio.wait(listening, timeout=DRAIN)
        finally:
            tasks = (self._reader, self._writer, self._listener, self._watcher)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._goes.close()
            # Nothing public closes it, and it warns of a pipe that somebody else holds.
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001

    async def _wait(self, seconds: float) -> None:
        for _ in range(int(seconds / POLL)):
            if self._process.returncode is not None:
                return
            await asyncio.sleep(POLL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _parse(line: bytes | TooLong) -> SessionMessage | None:
    """Read a message; what was too long is an error to who asked for it, and harms nobody else."""
    from mcp.shared.message import SessionMessage
    from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

    if isinstance(line, TooLong):
        if line.id is None:
            return None
        error = ErrorData(code=INTERNAL_ERROR, message="The answer is too large.")
        return SessionMessage(JSONRPCError(jsonrpc="2.0", id=line.id, error=error))
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except (ValueError, RecursionError):
        return None
