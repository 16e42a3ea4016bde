"""Tools of MCP servers for the reference's clients: they are asked and decide, and never run such a call themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.mcp import allow
from tests.agent.providers.upstream import text_answer
from tests.agent.test_mcp import add
from tests.agent.transcripts import call, calls_answer
from tests.reference.clients import final, is_call, is_final, talking
from tests.reference.test_conversations import tool_results
from tests.support.mcp import McpServer, run_mcp_server, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

REFUSED = "The server itself makes this call."


@pytest.fixture
async def remote() -> AsyncIterator[McpServer]:
    """An MCP server."""
    async with run_mcp_server() as server:
        yield server


@pytest.fixture
async def talker(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], remote: McpServer) -> Person:
    """A person whose server may use it."""
    return await (await start(**with_model, mcp_allowed_hosts=(remote.place,))).person()


async def begin(model: Upstream, talker: Person, remote: McpServer, *calls: dict[str, Any]) -> str:
    """Let the model ask for tools, and then say that it is done; return a session with the server."""
    model.play(calls_answer(*calls))
    model.play(text_answer("Done", "."))
    session = await talker.session(agent="coder")
    assert (await add(talker, session, remote)).status_code == 201
    return session


def is_error(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk is an error."""
    return bool(chunk["type"] == "error")


async def test_a_result_for_what_is_asked_is_refused(model: Upstream, talker: Person, remote: McpServer) -> None:
    """A ``tool_result`` approves nothing here, whoever waits: the connection lives, and a decision lets it be made."""
    session = await begin(model, talker, remote, call("mcp__sums__add", {"a": 1, "b": 2}, id="sum"))
    async with talking(talker, session) as talk:
        await talk.say("add")
        asked = (await talk.until(is_call))[-1]
        for result in ({"result": "4"}, {"result": None, "error": "Unknown tool: mcp__sums__add"}):
            await talk.send("tool_result", call_id="sum", tool_name="mcp__sums__add", **result)
            (refused,) = await talk.until(is_error)
            assert refused["error"] == REFUSED
        pending = (await talker.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()
        calls_before = list(remote.calls)
        await talk.send("hitl_decision", call_id="sum", decision="approve")
        ended = await talk.until(is_final)
    events = await talker.until(session, "turn.completed")

    assert (asked["tool_name"], asked["requires_approval"]) == ("mcp__sums__add", True)
    assert asked["arguments"] == {"a": 1, "b": 2}
    assert [item["call_id"] for item in pending["pending_approvals"]] == ["sum"]
    assert calls_before == []
    assert ended == [final("Done.")]
    assert remote.calls == [("add", {"a": 1, "b": 2})]
    assert tool_results(model) == {"sum": "3"}
    assert [e.data["decision"] for e in events if e.type == "approval.resolved"] == ["approve"]


async def test_decisions_in_the_words_of_the_reference(model: Upstream, talker: Person, remote: McpServer) -> None:
    """Rejected by ``User rejected`` or by decision it is not made; edited it is made as edited; none is handed out."""
    session = await begin(
        model,
        talker,
        remote,
        *(call("mcp__sums__add", {"a": 1, "b": number}, id=f"c{number}") for number in range(3)),
    )
    async with talking(talker, session) as talk:
        await talk.say("add")
        for _ in range(3):
            await talk.until(is_call)
        await talk.send("tool_result", call_id="c0", result=None, error="User rejected: not this sum")
        await talk.send("hitl_decision", call_id="c1", decision="reject", feedback="nor this")
        await talk.send("hitl_decision", call_id="c2", decision="edit", modified_arguments={"a": 5, "b": 6})
        ended = await talk.until(is_final)

    results = tool_results(model)
    assert ended == [final("Done.")]
    assert remote.calls == [("add", {"a": 5, "b": 6})]
    assert "not this sum" in results["c0"]
    assert "nor this" in results["c1"]
    assert "11" in results["c2"]


async def test_a_call_that_is_made_is_shown_to_nobody(model: Upstream, talker: Person, remote: McpServer) -> None:
    """Allowed, it never appears, to one who comes back neither; a result for it is refused while it is made."""
    remote.tools = [tool("hang")]
    session = await begin(model, talker, remote, call("mcp__sums__hang", {}, id="hang"))
    await allow(talker, session)
    async with talking(talker, session) as talk:
        await talk.say("go")
        await asyncio.wait_for(remote.called.wait(), 30)
        await talk.send("tool_result", call_id="hang", result="mine")
        (refused,) = await talk.until(is_error)
    async with talking(talker, session) as back:
        await back.send("tool_result", call_id="hang", error="User rejected")
        (again,) = await back.until(is_error)
        remote.go_on.set()
        ended = await back.until(is_final)
        # Of a call that has ended each result is one more of the same: it changes nothing, and nobody is told.
        await back.send("tool_result", call_id="hang", result="late")
        await back.send("switch_agent", agent_type="debug", content="")
        switched = await back.read()
    results = [m["content"] for m in await talker.history(session) if m["role"] == "tool"]

    assert refused["error"] == again["error"] == REFUSED
    assert switched["to_agent"] == "debug"
    assert results == ["at last"]
    assert ended == [final("Done.")]
    assert not any(is_call(chunk) for chunk in (*talk.chunks, *back.chunks))
    assert tool_results(model) == {"hang": "at last"}


async def test_a_call_of_another_clients_server_is_left_to_it(
    model: Upstream, talker: Person, remote: McpServer
) -> None:
    """It is not handed out to the clients of the reference, which have no names, and their result is refused."""
    model.play(calls_answer(call("mcp__own__look", {}, id="look")))
    model.play(text_answer("Done", "."))
    session = await talker.session(agent="coder")
    told = {"name": "own", "transport": "client", "client_id": "chat", "tools": [{"name": "look", "inputSchema": {}}]}
    assert (await talker.http.post(f"/api/v1/sessions/{session}/mcp-servers", json=told)).status_code == 201
    await allow(talker, session)
    async with talking(talker, session) as talk:
        await talk.say("go")
        await talker.until(session, "tool.requested")
        await talk.send("tool_result", call_id="look", result="mine")
        (refused,) = await talk.until(is_error)
    async with talking(talker, session) as back:
        await talker.http.post(f"/api/v1/sessions/{session}/tool-calls/look/claim", json={"client_id": "chat"})
        await talker.answer(session, "look", result="seen", client_id="chat")
        ended = await back.until(is_final)

    assert refused["error"] == "Another client runs the MCP server of this tool."
    assert ended == [final("Done.")]
    assert not any(is_call(chunk) for chunk in (*talk.chunks, *back.chunks))
    assert tool_results(model) == {"look": "seen"}
