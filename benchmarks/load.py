"""A client that is faster than the server: ``python -m benchmarks.load`` in a process of its own.

It speaks just enough HTTP/1.1 to send the same request over and over on kept connections and to find the end of each
answer, as wrk does. A whole HTTP library would measure itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("hammer",)


class _Connection(asyncio.Protocol):
    """Send the request again as soon as its answer is there."""

    def __init__(self, request: bytes, status: bytes, end: float) -> None:
        self._request = request
        self._status = status
        self._end = end
        self._buffer = bytearray()
        self._sent = 0.0
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[at + 15 : self._buffer.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        if self._buffer[9:12] != self._status:
            self._fail(RuntimeError(bytes(self._buffer[:2000]).decode(errors="replace")))
            return
        del self._buffer[: head + 4 + length]
        now = time.perf_counter()
        self.latencies.append(now - self._sent)
        if now < self._end:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            if time.perf_counter() < self._end and exc is None:
                exc = RuntimeError("the server closed the connection")
            self.done.set_exception(exc) if exc else self.done.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.done.set_exception(error)
        self._transport.close()


async def hammer(host: str, port: int, request: bytes, status: str, connections: int, seconds: float) -> list[float]:
    """Send a request over ``connections`` for ``seconds``; return how long each answer took, in seconds."""
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: _Connection(request, status.encode(), end), host, port)
            for _ in range(connections)
        )
    )
    await asyncio.gather(*(connection.done for _, connection in made))
    return sorted(latency for _, connection in made for latency in connection.latencies)


def main(arguments: Sequence[str]) -> None:
    """Read the raw request from standard input, print the rate and the latencies as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--status", default="200")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args(arguments)
    request = sys.stdin.buffer.read()
    began = time.perf_counter()
    took = uvloop.run(hammer("127.0.0.1", given.port, request, given.status, given.connections, given.seconds))
    rate = len(took) / (time.perf_counter() - began)
    print(json.dumps({"rate": rate, "p50": took[len(took) // 2], "p99": took[int(len(took) * 0.99)]}))


if __name__ == "__main__":
    main(sys.argv[1:])
