"""Readers of many streams at once: ``python -m benchmarks.stream_load`` in a process of its own.

What arrives is only kept with its time while it streams, and read afterwards, so that the reader costs next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main",)

_STAMP = re.compile(rb"\d{15}(?= )")
#: Where the whole text comes again.
_WHOLE = b"event: message.completed"


class _Reader(asyncio.Protocol):
    """Send a request and keep what comes, until a text in it says that it was all."""

    def __init__(self, request: bytes, last: bytes) -> None:
        self._request = request
        self._last = last
        self.arrived: list[tuple[int, bytes]] = []
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.arrived.append((time.monotonic_ns() // 1000, data))
        if not self.first.done():
            self.first.set_result(None)
        tail = self.arrived[-2][1][-len(self._last) :] + data if len(self.arrived) > 1 else data
        if self._last in tail and not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.first, self.done):
            if not future.done():
                said = b"".join(data for _, data in self.arrived)[:1000].decode(errors="replace")
                future.set_exception(exc or RuntimeError(f"the stream ended early: {said}"))

    def ages(self) -> list[int]:
        """How old each chunk was when it arrived, in microseconds."""
        ages, rest = [], b""
        for at, data in self.arrived:
            text, _, whole = (rest + data).partition(_WHOLE)
            ages += [at - int(stamp) for stamp in _STAMP.findall(text)]
            # A stamp may be cut in two by the wire: what follows the last whole one comes again.
            found = list(_STAMP.finditer(text))
            rest = text[found[-1].end() :][-40:] if found else text[-40:]
            if whole:
                break
        return ages


async def _play(port: int, plan: list[dict[str, str]]) -> dict[str, Any]:
    """Open all streams, then start all answers; each entry has ``follow``, ``last`` and perhaps ``start``."""
    loop = asyncio.get_running_loop()

    async def connect(request: str, last: str) -> _Reader:
        _, reader = await loop.create_connection(lambda: _Reader(request.encode(), last.encode()), "127.0.0.1", port)
        return reader

    began = time.monotonic_ns() // 1000
    readers = [await connect(one["follow"], one["last"]) for one in plan]
    if "start" in plan[0]:
        await asyncio.gather(*(reader.first for reader in readers))
        began = time.monotonic_ns() // 1000
        starters = [await connect(one["start"], "HTTP/1.1 2") for one in plan]
        await asyncio.gather(*(starter.done for starter in starters))
    await asyncio.gather(*(reader.done for reader in readers))
    ended = max(reader.arrived[-1][0] for reader in readers)
    each = [reader.ages() for reader in readers]
    ages = sorted(age for of_one in each for age in of_one)
    return {
        "chunks": len(ages),
        "seconds": (ended - began) / 1e6,
        "p50": ages[len(ages) // 2] / 1e6,
        "p99": ages[int(len(ages) * 0.99)] / 1e6,
        "first": sorted(of_one[0] for of_one in each)[len(each) // 2] / 1e6,
    }


def main(arguments: Sequence[str]) -> None:
    """Read the plan as JSON from standard input, print what was measured as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(arguments)
    print(json.dumps(uvloop.run(_play(given.port, json.load(sys.stdin)))))


if __name__ == "__main__":
    main(sys.argv[1:])
