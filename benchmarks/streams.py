"""What models say to many clients at once, committed before it is told, beside a bare relay that keeps nothing.

In a burst the model writes as fast as it is read; paced, it writes as a fast model does. The age of a chunk is the time
from the model's write to the client's read, so what the two sides add can be told apart.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.processes import codelab, cpu_seconds, get, load, post, program
from benchmarks.sides import Row, rounds_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.processes import Codelab
    from tests.support.databases import PostgresServer

__all__ = ("measure",)

#: Streams, chunks of each, and chunks a second (0: as fast as they are read).
BURST, PACED, CROWD = (16, 5000, 0), (16, 100, 50), (300, 300, 50)


async def measure(folder: Path, server: PostgresServer | None, rounds: int, _seconds: float) -> list[Row]:
    """Count the chunks that reach their readers, and how old they are then."""
    with program("mock_model") as model, program("floor", "relay", model) as floor:
        settings = {"AGENT_RUNTIME__LLM_PROXY_URL": model, "AGENT_RUNTIME__LLM_MODEL": "mock"}
        async with codelab(folder / uuid4().hex, server, **settings) as side:
            burst = await rounds_of(
                {"floor": lambda: _relayed(floor, *BURST), "ours": lambda: _told(side, *BURST)}, rounds
            )
            paced = await rounds_of(
                {"floor": lambda: _relayed(floor, *PACED), "ours": lambda: _told(side, *PACED)}, rounds
            )
            crowd = await rounds_of(
                {"floor": lambda: _relayed(floor, *CROWD), "ours": lambda: _told(side, *CROWD)}, min(rounds, 3)
            )
    return [
        Row("16 streams in a burst", burst["ours"]["rate"], "chunks/s", burst["floor"]["rate"], at_least=1.0),
        _age("  age of a chunk, p99", burst, "p99", below=60),
        _age("16 streams at 50 chunks/s: age of a chunk, median", paced, "p50"),
        _age("  age of a chunk, p99", paced, "p99"),
        _added("  added to the first event, median", paced, "first", below=6),
        Row("300 streams at 50 chunks/s", crowd["ours"]["rate"], "chunks/s", crowd["floor"]["rate"], at_least=0.99),
        _age("  age of a chunk, p99", crowd, "p99"),
        _added("  added to the age of a chunk, p99", crowd, "p99", below=100),
        Row("  of one core, by the server", crowd["ours"]["cores"], "cores"),
    ]


def _age(what: str, sides: Mapping[str, Mapping[str, float]], key: str, below: float | None = None) -> Row:
    return Row(what, sides["ours"][key] * 1e3, "ms", sides["floor"][key] * 1e3, below=below)


def _added(what: str, sides: Mapping[str, Mapping[str, float]], key: str, below: float) -> Row:
    return Row(what, (sides["ours"][key] - sides["floor"][key]) * 1e3, "ms", below=below)


async def _relayed(url: str, streams: int, chunks: int, pace: int) -> dict[str, float]:
    request = post("/", {"messages": [{"role": "user", "content": f"@{chunks},{pace}"}]})
    measured = await load("stream_load", url, json.dumps([{"follow": request, "last": "[DONE]"}] * streams))
    return measured | {"rate": measured["chunks"] / measured["seconds"]}


async def _told(side: Codelab, streams: int, chunks: int, pace: int) -> dict[str, float]:
    plan = []
    for _ in range(streams):
        path = f"/api/v1/sessions/{await side.session()}"
        start = post(f"{path}/messages", {"content": f"@{chunks},{pace}"}, side.token)
        plan.append({"follow": get(f"{path}/events?after=0", side.token), "last": "turn.completed", "start": start})
    before = cpu_seconds(side.pid)
    measured = await load("stream_load", side.url, json.dumps(plan))
    cores = (cpu_seconds(side.pid) - before) / measured["seconds"]
    return measured | {"rate": measured["chunks"] / measured["seconds"], "cores": cores}
