"""What a server costs that does nothing: after its start, and with thousands of event streams that are silent."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.processes import codelab, get, resident_kb
from benchmarks.sides import Row

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.processes import Codelab
    from tests.support.databases import PostgresServer

__all__ = ("measure",)

STREAMS, SESSIONS = 5_000, 500
_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)


async def measure(folder: Path, server: PostgresServer | None, rounds: int, _seconds: float) -> list[Row]:
    """Start servers, and attach silent readers to one."""
    starts, memories = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        async with codelab(folder / uuid4().hex, server) as side:
            starts.append(time.perf_counter() - began)
            memories.append(resident_kb(side.pid) / 1024)
    each = {"SSE": 0.0, "WebSocket": 0.0}
    for kind in each:
        async with codelab(folder / uuid4().hex, server) as side:
            each[kind] = await _attach(side, websocket=kind == "WebSocket")
    return [
        Row("process after its start, with one login", statistics.median(memories), "MB", below=120),
        Row("start on an empty database until /ready, and a login", statistics.median(starts), "s", below=2.5),
        *(Row(f"{STREAMS:,} idle streams, each, {kind}", kb, "KB", below=40) for kind, kb in each.items()),
    ]


async def _attach(side: Codelab, *, websocket: bool) -> float:
    """Open the streams and return what each costs, in KB."""
    sessions = [await side.session() for _ in range(SESSIONS)]
    port = int(side.url.rpartition(":")[2].strip("/"))
    before = resident_kb(side.pid)
    gate = asyncio.Semaphore(50)
    async with AsyncExitStack() as stack:

        async def attach(number: int) -> None:
            path = f"/api/v1/sessions/{sessions[number % SESSIONS]}"
            request = get(f"{path}/stream" if websocket else f"{path}/events", side.token)
            if websocket:
                request = request.removesuffix("\r\n") + _UPGRADE
            async with gate:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
                stack.callback(writer.close)
                writer.write(request.encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), head

        await asyncio.gather(*(attach(number) for number in range(STREAMS)))
        with suppress(TimeoutError):
            async with asyncio.timeout(2):  # what the handshakes left behind is collected meanwhile
                await asyncio.Event().wait()
        return (resident_kb(side.pid) - before) / STREAMS
