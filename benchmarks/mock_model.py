"""A model server that is faster than anything in front of it: ``python -m benchmarks.mock_model`` prints its address.

It answers every ``POST`` with a stream in the wire format of OpenAI's chat completions. The last word of the last
message says how: ``…@CHUNKS,RATE``; a rate of 0 is as fast as the reader takes them. Each chunk is a text of 16
characters: the time at which it was written (``CLOCK_MONOTONIC`` in microseconds), so that a reader on the same machine
knows its age.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import Any

import uvloop

__all__ = ("TEXT_LENGTH",)

TEXT_LENGTH = 16
#: Chunks that are written at once when there is no rate.
BURST = 32
#: Seconds between two writes when there is one, unless it asks for less.
TICK = 0.005
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%015d "}}]}\n\n'
_LAST = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
_ORDER = re.compile(rb"@(\d+),(\d+)")


class _Model(asyncio.Protocol):
    """One connection: read a request, write its stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[at + 15 : self._buffer.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        orders = _ORDER.findall(self._buffer)
        chunks, rate = map(int, orders[-1]) if orders else (1, 0)
        del self._buffer[: head + 4 + length]
        self._task = asyncio.create_task(self._answer(chunks, rate))

    async def _answer(self, chunks: int, rate: int) -> None:
        self._write(_HEAD, framed=False)
        began = time.monotonic()
        step = max(1, round(rate * TICK)) if rate else BURST
        for first in range(0, chunks, step):
            await asyncio.sleep(max(0.0, began + first / rate - time.monotonic()) if rate else 0)
            await self._may_write.wait()
            if self._transport.is_closing():
                return
            count = min(step, chunks - first)
            self._write(b"".join(_CHUNK % (time.monotonic_ns() // 1000) for _ in range(count)))
        self._write(_LAST)
        self._write(b"0\r\n\r\n", framed=False)

    def _write(self, data: bytes, *, framed: bool = True) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if framed else data)


async def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = await asyncio.get_running_loop().create_server(_Model, sock=listener)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
