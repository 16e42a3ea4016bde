"""A TCP proxy in front of the test PostgreSQL that refuses, stalls and cuts connections on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ("Proxy",)

_TLS_REQUEST = struct.pack("!II", 8, 80877103)


class Proxy:
    """Listen on a free port of 127.0.0.1 and forward to a PostgreSQL server; use as ``async with``.

    ``refuse`` leaves the port closed until ``listen`` is called, ``silent`` takes connections and says nothing,
    ``refuse_tls`` answers a TLS request with N and notes in ``spoken`` whether the client went on in clear,
    ``ask_password`` asks for a password in clear, notes it in ``password`` and hangs up. ``on_client`` sees what the
    client sends; when it returns ``before`` or ``after`` the connection is cut, without or with those bytes forwarded.
    """

    def __init__(
        self,
        url: str,
        *,
        refuse: bool = False,
        silent: bool = False,
        refuse_tls: bool = False,
        ask_password: bool = False,
    ) -> None:
        self._upstream = urlsplit(url)
        self._refuse, self._silent, self._refuse_tls, self._ask_password = refuse, silent, refuse_tls, ask_password
        self.on_client: Callable[[bytes], str | None] = lambda _data: None
        self.spoken = False
        self.password = ""
        self.host = "127.0.0.1"
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._socket = socket.socket()

    @property
    def url(self) -> str:
        """The URL of the same database through the proxy."""
        user = quote(self._upstream.username or "", safe="")
        if self._upstream.password:
            user += ":" + quote(self._upstream.password, safe="")
        return f"postgresql://{user}@{self.host}:{self.port}{self._upstream.path}"

    async def listen(self) -> None:
        """Begin to take connections."""
        self._server = await asyncio.start_server(self._take, sock=self._socket)

    async def __aenter__(self) -> Self:
        # Bound but not listening: a connection is refused, and nobody else gets the port.
        self._socket.bind((self.host, 0))
        self.port = self._socket.getsockname()[1]
        if not self._refuse:
            await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # asyncio's server would report it
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            await reader.read()
        elif self._refuse_tls:
            assert await reader.readexactly(8) == _TLS_REQUEST
            writer.write(b"N")
            self.spoken = bool(await reader.read(1))
        elif self._ask_password:
            await self._hear_password(reader, writer)
        else:
            await self._forward(reader, writer)

    async def _hear_password(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == _TLS_REQUEST:
            writer.write(b"N")
            first = await reader.readexactly(8)
        await reader.readexactly(struct.unpack("!I", first[:4])[0] - 8)
        writer.write(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        assert kind == b"p"
        self.password = (await reader.readexactly(length - 4)).rstrip(b"\0").decode()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._upstream.port or 5432
        host = parse_qs(self._upstream.query).get("host", [self._upstream.hostname or ""])[0]
        if host.startswith("/"):
            up_reader, up_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            up_reader, up_writer = await asyncio.open_connection(host, port)
        back = asyncio.create_task(_copy(up_reader, writer))
        try:
            while data := await reader.read(65536):
                cut = self.on_client(data)
                if cut != "before":
                    up_writer.write(data)
                    await up_writer.drain()
                if cut == "after":
                    back.cancel()
                    await asyncio.wait([back])
                    await up_reader.read(1)  # the server has answered, so it has done what it was told
                if cut:
                    return
        finally:
            back.cancel()
            up_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
