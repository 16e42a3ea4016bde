"""The real process is killed while it calls tools of MCP servers, and started again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from codelab.agent.mcp.worker import AT_ONCE
from tests.agent.mcp import allow, completed, is_question
from tests.agent.providers.upstream import Upstream, run_upstream, text_answer
from tests.agent.transcripts import END, call, calls_answer, check_transcript
from tests.agent.witness import Witness
from tests.support.mcp import ADD, McpServer, run_mcp_server, tool
from tests.support.process import server_process
from tests.support.server import Event, Person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

HEADER, QUERY = "Bearer wJ8-not-for-logs", "pR3-not-for-logs-either"


async def begin(person: Person, remote: McpServer, model: Upstream, *calls: dict[str, Any]) -> str:
    """Let the model call tools of a server in a new session."""
    session = await person.session(agent="coder")
    body = {"name": "remote", "url": f"{remote.url}?key={QUERY}", "headers": {"Authorization": HEADER}}
    answer = await person.http.post(f"/api/v1/sessions/{session}/mcp-servers", json=body)
    assert answer.status_code == 201, answer.text
    await allow(person, session)
    model.play(calls_answer(*calls))
    await person.say(session, "go")
    return session


async def until_called(remote: McpServer, count: int) -> None:
    """Return when a server was called so often."""
    async with asyncio.timeout(60):
        while len(remote.calls) < count:
            await asyncio.sleep(0.02)


def attempts(events: list[Event]) -> dict[str, list[int]]:
    """Return which tries of each call were begun."""
    found: dict[str, list[int]] = {}
    for event in events:
        if event.type == "tool.claimed":
            found.setdefault(event.data["call_id"], []).append(event.data["attempt"])
    return found


async def test_a_kill_during_calls(databases: DatabaseUrls, tmp_path: Path) -> None:
    """Of a call under way nobody knows what it did: a person is asked, or it is made again where its tool is safe.

    A call that waited for its place and was not begun is made once. No log has a header or a URL.
    """
    async with contextlib.AsyncExitStack() as stack:
        once, safe = [await stack.enter_async_context(run_mcp_server()) for _ in range(2)]
        model = await stack.enter_async_context(run_upstream())
        once.tools, safe.tools = [tool("hang")], [tool("hang", safe=True), ADD]
        environ = {
            "AGENT_RUNTIME__LLM_PROXY_URL": model.url,
            "AGENT_RUNTIME__LLM_MODEL": "test-model",
            "AGENT_RUNTIME__MCP_ALLOWED_HOSTS": f"{once.place},{safe.place}",
            "AGENT_RUNTIME__CLAIM_GRACE_SECONDS": "0.5",
        }
        held = [call("mcp__remote__hang", {}, id=f"held{number}") for number in range(AT_ONCE - 1)]
        waiting = call("mcp__remote__add", {"a": 1, "b": 2}, id="waiting")
        with server_process(tmp_path, databases, (), **environ) as server:
            async with server.login() as http:
                person = Person(http, "admin")
                asked = await begin(person, once, model, call("mcp__remote__hang", {}, id="once"))
                await until_called(once, 1)
                crowded = await begin(person, safe, model, *held, waiting)
                await until_called(safe, AT_ONCE - 1)
            async with Witness.at(databases) as witness:
                states = "SELECT call_id FROM tool_calls WHERE state = 'requested' AND claimed_by IS NULL"
                unmarked = [row[0] for row in await witness.rows(states)]
            server.kill()
        log = server.log.read_text(encoding="utf-8")
        assert unmarked == ["waiting"]
        assert {name for name, _ in safe.calls} == {"hang"}

        once.go_on.set()
        safe.go_on.set()
        model.otherwise = lambda _: (text_answer("Done."),)
        with server_process(tmp_path, databases, (), **environ) as server:
            async with server.login() as http:
                person = Person(http, "admin")
                question = (await person.events(asked, is_question))[-1].data
                assert (len(once.calls), question["call_id"]) == (1, "once")
                await person.decide(asked, question["approval_id"], "approve")
                events = await person.until(asked, *END)
                crowd = await person.until(crowded, *END)
            assert server.stop() == 0
        log += server.log.read_text(encoding="utf-8")
        for body in model.bodies:
            check_transcript(body)

    assert completed(events)["once"]["result"] == "at last"
    assert attempts(events) == {"once": [1, 2]}
    assert attempts(crowd) == {made["id"]: [1, 2] for made in held} | {"waiting": [1]}
    assert completed(crowd)["waiting"]["result"] == "3"
    assert {end["status"] for end in completed(crowd).values()} == {"completed"}
    assert not any(is_question(event) for event in crowd)
    assert (len(once.calls), [name for name, _ in safe.calls].count("add")) == (2, 1)
    assert [events[-1].type, crowd[-1].type] == ["turn.completed"] * 2
    assert once.tokens == safe.tokens == {HEADER}
    for word in (HEADER.removeprefix("Bearer "), QUERY, once.place, safe.place):
        assert word not in log
