"""What a model says to 16 clients in a burst, committed before it is told, beside a bare relay that keeps nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.processes import codelab, load, post, program
from benchmarks.sides import compare

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.support.databases import PostgresServer

__all__ = ("measure",)

STREAMS, CHUNKS = 16, 5000


async def measure(folder: Path, server: PostgresServer | None, rounds: int, _seconds: float) -> list[tuple[str, float]]:
    """Count the chunks of the model that reach their readers, in chunks a second."""
    with program("mock_model") as model, program("floor", "relay", model) as floor:
        settings = {"AGENT_RUNTIME__LLM_PROXY_URL": model, "AGENT_RUNTIME__LLM_MODEL": "mock"}
        async with codelab(folder / uuid4().hex, server, **settings) as http:
            return await compare(
                {
                    "floor: 16 streams relayed chunk by chunk": lambda: _relayed(floor),
                    "16 event streams, committed before told": lambda: _told(http),
                },
                rounds,
            )


async def _relayed(url: str) -> float:
    request = post("/", {"messages": [{"role": "user", "content": f"@{CHUNKS},0"}]})
    measured = await load("stream_load", url, json.dumps([{"follow": request, "last": "[DONE]"}] * STREAMS))
    return measured["chunks"] / measured["seconds"]


async def _told(http: httpx2.AsyncClient) -> float:
    token, plan = http.headers["Authorization"], []
    for _ in range(STREAMS):
        session = (await http.post("/api/v1/sessions", json={"agent": "ask"})).json()["id"]
        path = f"/api/v1/sessions/{session}"
        follow = f"GET {path}/events?after=0 HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n\r\n"
        start = post(f"{path}/messages", {"content": f"@{CHUNKS},0"}, token)
        plan.append({"follow": follow, "last": "turn.completed", "start": start})
    measured = await load("stream_load", str(http.base_url), json.dumps(plan))
    return measured["chunks"] / measured["seconds"]
