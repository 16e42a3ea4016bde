"""MCP servers that the operator names: processes of this server, which every session has the tools of."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.mcp import remote as remote_module
from codelab.agent.mcp.listings import REFRESH, Listings
from codelab.agent.mcp.stdio import pool as pool_module
from tests.agent.mcp import allow, completed
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer, last
from tests.agent.witness import Witness
from tests.support.mcp import run_mcp_server, tool
from tests.support.stdio_server import STDIO_SERVER, alive, children, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codelab.agent.mcp.stdio.child import Child
    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Event, Person, Running

SECRET = "ghp-not-for-logs-1"


@pytest.fixture
def named(tmp_path: Path, with_model: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Write a file of servers, each with the modes of its program and its tools; return the settings for it."""

    def write(**servers: tuple[str, ...]) -> dict[str, Any]:
        members = {}
        for name, (tools, *modes) in servers.items():
            (tmp_path / f"{name}.tools").write_text(tools)
            env = {"TOOLS": str(tmp_path / f"{name}.tools"), "TOKEN": SECRET, "CALLS": str(tmp_path / "calls")}
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
        asked = await ada.until(session, "turn.waiting")
        claimed = await ada.http.post(f"/api/v1/sessions/{session}/tool-calls/sum/claim", json={"client_id": "me"})
        for event in asked:
            if event.type == "approval.requested":
                await ada.decide(session, event.data["approval_id"], "approve")
        events = await ada.until(session, *END)
    ends = completed(events)
    seen = json.loads(ends["environment"]["result"])

    assert claimed.json()["code"] == "made_by_server"
    assert [t["function"]["name"] for t in model.bodies[0]["tools"]][-2:] == [
        "mcp__sums__add",
        "mcp__other__environment",
    ]
    assert ends["sum"]["result"] == "3"
    assert "tool.requested" not in {event.type for event in events}
    assert (seen["TOKEN"], seen["LC_TIME"]) == (SECRET, "C")
    assert not [name for name in seen if name.startswith(("AGENT_", "AUTH_", "CODELAB_", "PYTEST"))]


async def test_bad_servers_are_errors_that_the_model_sees(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever servers do instead of serving, each call has its one result, and no process is left."""
    caplog.set_level(logging.INFO)
    model.play(
        calls_answer(
            call("mcp__good__hang", {}, id="hang"),
            call("mcp__good__huge", {"size": 6000}, id="long"),
            call("mcp__good__fail", {}, id="fail"),
            call("mcp__good__picture", {}, id="picture"),
            call("mcp__leaky__add", {"a": 1, "b": 2}, id="leaky"),
            call("mcp__shouting__add", {"a": 1, "b": 2}, id="shouting"),
            call("mcp__greeting__add", {"a": 1, "b": 2}, id="greeting"),
            call("mcp__dying__die", {}, id="die"),
            call("mcp__flood__huge", {"size": 4_000_000}, id="flood"),
            call("mcp__exit__add", {"a": 1, "b": 2}, id="exit"),
        )
    )
    model.play(text_answer("Well."))
    honest = {"good": ("hang\nhuge\nfail\npicture",), "dying": ("die",), "flood": ("huge",)}
    bad = {mode: ("add", mode) for mode in ("leaky", "shouting", "greeting", "exit", "mute", "endless", "noise")}
    settings = named(**honest, **bad) | {"mcp_call_seconds": 10.0}
    async with serve(**settings) as running:
        ada, session = await ready(running)
        running.app.state.agent._mcp_worker._seconds = 2.0
        pids = [pid for pid in children() if alive(pid)]
        events = await run(ada, session)
        listed = (await ada.http.get(f"/api/v1/sessions/{session}/mcp-servers")).json()["mcp_servers"]
        errors = {server["name"]: server["error"] for server in listed}
    ends = completed(events)
    said = [record.getMessage() for record in caplog.records if " says: " in record.getMessage()]

    assert {name: end["status"] for name, end in ends.items()} == {
        "hang": "failed",
        "long": "completed",
        "fail": "failed",
        "picture": "completed",
        "leaky": "completed",
        "shouting": "completed",
        "greeting": "completed",
        "die": "failed",
        "flood": "failed",
        "exit": "denied",
    }
    assert "longer than 2 seconds" in ends["hang"]["error"]
    assert "Nobody knows" in ends["die"]["error"]
    assert ends["long"]["result"].endswith("[cut: the result had more than 4096 bytes]")
    assert ends["fail"]["error"] == "No such city."
    assert last(events, "turn.completed")
    assert (errors["good"], errors["leaky"]) == (None, None)
    assert "did not begin within 10 seconds" in errors["mute"]
    assert all(errors[name] for name in ("exit", "endless", "noise"))
    assert "the MCP server leaky says: my token is [TOKEN] [2J" in said
    assert SECRET not in caplog.text
    assert max(len(line) for line in said) < 600
    assert len([line for line in said if "shouting" in line]) == 30
    assert pids
    assert not [pid for pid in pids if alive(pid)]
    assert not children()


async def test_a_server_that_ended_is_started_again(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream
) -> None:
    """Its tools stay known; a call fails while it is away, and works when it is back."""
    model.play(calls_answer(call("mcp__sums__die", {}, id="die")))
    model.play(calls_answer(call("mcp__sums__add", {"a": 1, "b": 2}, id="sum")))
    model.play(text_answer("Three."))
    async with serve(**named(sums=("add\ndie",))) as running:
        ada, session = await ready(running)
        first = set(children())
        events = await run(ada, session)
        second = set(children())
    ends = completed(events)

    assert (ends["die"]["status"], ends["sum"]["result"]) == ("failed", "3")
    assert first
    assert not first & second
    assert model.bodies[0]["tools"] == model.bodies[1]["tools"] == model.bodies[2]["tools"]


async def test_a_call_that_was_left_waits_for_its_server(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream, migrated: DatabaseUrls, tmp_path: Path
) -> None:
    """What an earlier process let run and did not begin is made when its server has told its tools again."""
    calls = tmp_path / "calls"
    model.play(calls_answer(call("mcp__sums__wait", {}, id="wait")))
    model.play(text_answer("Done."))
    settings = named(sums=("wait",))
    async with serve(**settings) as running:
        ada, session = await ready(running)
        await ada.say(session, "go")
        await until(calls.exists)
    async with Witness.at(migrated) as witness:
        await witness.change("UPDATE tool_calls SET claimed_by = NULL, claimed_at = NULL")
    (tmp_path / "calls.go").touch()
    async with serve(**settings) as running:
        ada = await running.person()
        events = await ada.until(session, *END)

    assert completed(events)["wait"]["result"] == "at last"
    assert calls.read_text() == "wait\nwait\n"


async def test_a_question_outlives_a_restart(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who decides while servers begin is heard when it is known which tools there are, and it is the same tool."""
    model.play(calls_answer(call("mcp__sums__add", {"a": 1, "b": 2}, id="sum")))
    model.play(text_answer("Three."))
    monkeypatch.setattr(pool_module, "MOMENT", 60.0)
    monkeypatch.setattr(pool_module, "BEGINNING", 60.0)
    settings = named(sums=("add",))
    async with serve(**settings) as running:
        ada, session = await ready(running, allowed=False)
        await ada.say(session, "go")
        question = last(await ada.until(session, "turn.waiting"), "approval.requested")
    async with serve(**settings) as running:
        ada = await running.person()
        decided = await ada.decide(session, question["approval_id"], "approve")
        events = await ada.until(session, *END)

    assert decided.is_success, decided.text
    assert completed(events)["sum"]["result"] == "3"


async def test_an_approval_is_about_the_tool_that_was_asked_about(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream, tmp_path: Path
) -> None:
    """A server that changes a tool while a person looks at the question gets no approval for the new one."""
    model.play(calls_answer(call("mcp__sums__look", {}, id="look")))
    async with serve(**named(sums=("look",))) as running:
        ada, session = await ready(running, allowed=False)
        await ada.say(session, "go")
        question = last(await ada.until(session, "turn.waiting"), "approval.requested")
        (tmp_path / "sums.tools").write_text("look safe")
        await child(running, "sums").relist()
        changed = await ada.decide(session, question["approval_id"], "approve")
        rejected = await ada.decide(session, question["approval_id"], "reject")

    assert (changed.status_code, changed.json()["code"]) == (409, "tool_changed")
    assert rejected.is_success


async def test_a_server_that_is_stuck_delays_nobody_and_is_ended(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model call is made while the list is waited for; what gives no answer to it is started anew."""
    monkeypatch.setattr(remote_module, "LIST_SECONDS", 4.0)
    model.play(text_answer("Hello."))
    async with serve(**named(sums=("add",))) as running:
        ada, session = await ready(running)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        running.app.state.agent.mcp.catalogue.listings.forget()
        await run(ada, session)
        was_stuck = alive(pid)
        await until(lambda: not alive(pid))
        await until(lambda: child(running, "sums").runs)

    assert was_stuck
    assert model.bodies[0]["tools"][-1]["function"]["name"] == "mcp__sums__add"


async def test_operators_servers_are_listed_and_stay(
    serve: Serve, named: Callable[..., dict[str, Any]], model: Upstream
) -> None:
    """Everybody sees that they are there, and nothing of what the file says about them; their names are taken."""
    async with run_mcp_server() as remote:
        settings = named(sums=("add",)) | {"mcp_allowed_hosts": (remote.place,)}
        async with serve(**settings | {"mcp_file": None}) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            url = f"/api/v1/sessions/{session}/mcp-servers"
            before = await ada.http.post(url, json={"name": "sums", "url": remote.url})
        remote.tools = [tool("subtract")]
        model.play(text_answer("Hello."))
        async with serve(**settings) as running:
            await settled(running)
            ada, bob = await running.person(), await running.person("bob")
            added = await ada.http.post(url, json={"name": "mine", "url": remote.url})
            taken = await ada.http.post(url, json={"name": "sums", "url": remote.url})
            body = {"name": "sums", "transport": "client", "client_id": "me", "tools": []}
            told = await ada.http.post(url, json=body)
            kept = await ada.http.delete(f"{url}/operator:sums")
            stranger = await bob.http.delete(f"{url}/operator:sums")
            unknown = await ada.http.delete(f"{url}/operator:other")
            listed = await ada.http.get(url)
            await run(ada, session)
            removed = await ada.http.delete(f"{url}/{before.json()['id']}")

    given, older, mine = listed.json()["mcp_servers"]
    assert (before.status_code, added.status_code) == (201, 201)
    assert (taken.status_code, taken.json()["code"]) == (409, "mcp_name_taken")
    assert (told.status_code, told.json()["detail"]) == (409, taken.json()["detail"])
    assert "the operator has" in taken.json()["detail"]
    assert (kept.status_code, kept.json()["code"]) == (409, "operator_mcp_server")
    assert (stranger.status_code, unknown.status_code, removed.status_code) == (404, 404, 204)
    assert given == {
        "id": "operator:sums",
        "name": "sums",
        "transport": "stdio",
        "scope": "operator",
        "url": None,
        "client_id": None,
        "has_headers": False,
        "tools": given["tools"],
        "error": None,
        "created_at": None,
        "updated_at": None,
    }
    assert given["tools"][0]["tool_name"] == "mcp__sums__add"
    assert (mine["transport"], mine["scope"]) == ("http", "session")
    assert (older["tools"], older["error"]) == ([], "The operator has an MCP server of this name, which counts.")
    assert SECRET not in listed.text
    assert [t["function"]["name"] for t in model.bodies[0]["tools"]][-2:] == ["mcp__sums__add", "mcp__mine__subtract"]


async def test_a_list_that_does_not_come_is_not_waited_for(
    serve: Serve, with_model: dict[str, Any], model: Upstream
) -> None:
    """The model call is made with the tools that are known; the list is taken when it comes."""
    model.play(text_answer("Hello."))
    async with run_mcp_server() as remote, serve(**with_model, mcp_allowed_hosts=(remote.place,)) as running:
        ada = await running.person()
        session = await ada.session(agent="coder")
        url = f"/api/v1/sessions/{session}/mcp-servers"
        await ada.http.post(url, json={"name": "sums", "url": remote.url})
        listings = running.app.state.agent.mcp.catalogue.listings
        listings.forget()
        remote.listing.clear()
        remote.tools = [tool("subtract")]
        await run(ada, session)
        waits = bool(listings._under_way)
        before = (await ada.http.get(url)).json()["mcp_servers"][0]["tools"][0]["name"]
        remote.listing.set()
        await until(lambda: not listings._under_way)
        after = (await ada.http.get(url)).json()["mcp_servers"][0]["tools"][0]["name"]

    assert waits
    assert model.bodies[0]["tools"][-1]["function"]["name"] == "mcp__sums__add"
    assert (before, after) == ("add", "subtract")


async def test_servers_that_fail_are_asked_less_often_and_forgotten() -> None:
    """Each failure doubles the pause; of servers that nobody asks about any more nothing is kept."""
    listings = Listings()
    pauses = []
    for answer in (True, False, False, False, True):

        async def ask(answer: bool = answer) -> bool:
            return answer

        listings._asked = {key: value._replace(due=0.0) for key, value in listings._asked.items()}
        at = time.monotonic()
        await listings.bring_up({"a": ask})
        pauses.append(round((listings._asked["a"].due - at) / REFRESH))
        await listings.bring_up({"a": ask})  # too early
    listings._asked["a"] = listings._asked["a"]._replace(due=time.monotonic() - 1000)
    listings._swept = -1000.0
    await listings.bring_up({})

    assert pauses == [1, 2, 4, 8, 1]
    assert not listings._asked
