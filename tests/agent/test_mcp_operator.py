"""MCP servers that the operator names: processes of this server, which every session has the tools of."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.mcp import allow, completed
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer, last
from tests.support.stdio_server import STDIO_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from codelab.agent.mcp.stdio.child import Child
    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running

SECRET = "ghp-not-for-logs-1"


@pytest.fixture
def named(tmp_path: Path, with_model: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Write a file of servers, each with the modes of its program and its tools; return the settings for it."""

    def write(**servers: tuple[str, ...]) -> dict[str, Any]:
        members = {}
        for name, (tools, *modes) in servers.items():
            (tmp_path / f"{name}.tools").write_text(tools)
            env = {"TOOLS": str(tmp_path / f"{name}.tools"), "TOKEN": SECRET, "CHILD": str(tmp_path / "child")}
            members[name] = {"command": STDIO_SERVER[0], "args": [*STDIO_SERVER[1:], *modes], "env": env}
        file = tmp_path / "mcp.json"
        file.write_text(json.dumps({"mcpServers": members}))
        return {
            **with_model,
            "mcp_file": file,
            "mcp_call_seconds": 20.0,
            "claim_grace_seconds": 0.2,
            "max_result_bytes": 4096,
        }

    return write


def child(running: Running, name: str) -> Child:
    """Return what the server knows of one of them."""
    found: Child = running.app.state.agent.mcp.catalogue.pool.names[name]
    return found


async def settled(running: Running) -> None:
    """Wait until every server has told its tools, or failed to."""
    for one in running.app.state.agent.mcp.catalogue.pool.names.values():
        await asyncio.wait_for(one.settled.wait(), 60)


async def ready(running: Running, *, allowed: bool = True) -> tuple[Person, str]:
    """Make a person and their session."""
    await settled(running)
    ada = await running.person()
    session = await ada.session(agent="coder")
    if allowed:
        await allow(ada, session)
    return ada, session


async def run(ada: Person, session: str) -> list[Event]:
    """Say something, and return what happened until the turn ended."""
    await ada.say(session, "go")
    return await ada.until(session, *END)


async def test_every_session_has_the_tools_of_the_operators_servers(
    serve: Serve,
    named: Callable[..., dict[str, Any]],
    model: Upstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person is asked by default, and the process gets what its file says, and nothing of ours."""
    monkeypatch.setenv("AGENT_RUNTIME__LLM_API_KEY", SECRET)
    monkeypatch.setenv("LC_TIME", "C")
    model.play(
        calls_answer(
            call("mcp__sums__add", {"a": 1, "b": 2}, id="sum"), call("mcp__other__environment", {}, id="environment")
        )
    )
    model.play(text_answer("Three."))
    async with serve(**named(sums=("add",), other=("environment",))) as running:
        ada, session = await ready(running, allowed=False)
        await ada.say(session, "go")
        question = last(await ada.until(session, "turn.waiting"), "approval.requested")
        claimed = await ada.http.post(f"/api/v1/sessions/{session}/tool-calls/sum/claim", json={"client_id": "me"})
        waiting = (await ada.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()
        for approval in waiting["approvals"] if isinstance(waiting, dict) else waiting:
            await ada.decide(session, approval["approval_id"], "approve")
        events = await ada.until(session, *END)
    ends = completed(events)
    seen = json.loads(ends["environment"]["result"])

    assert question
    assert claimed.json()["code"] in {"approval_pending", "made_by_server"}
    assert [t["function"]["name"] for t in model.bodies[0]["tools"]][-2:] == [
        "mcp__sums__add",
        "mcp__other__environment",
    ]
    assert ends["sum"]["result"] == "3"
    assert "tool.requested" not in {event.type for event in events}
    assert (seen["TOKEN"], seen["LC_TIME"]) == (SECRET, "C")
    assert not [name for name in seen if name.startswith(("AGENT_", "AUTH_", "CODELAB_", "PYTEST"))]
