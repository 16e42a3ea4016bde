"""Approvals as a boundary: they end, they are bound to what was asked, and what is kept says who decided what."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import text

from codelab.agent.gate import digest
from codelab.agent.policy import Policy, Rule
from codelab.db import now
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer, last
from tests.support.auth import CLIENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

WRITE: dict[str, Any] = {"path": "a.md", "content": "x"}


async def ask(ada: Person, model: Upstream, *arguments: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Let the coder call write_file; return the session and what it asks. What the model says next is still to play."""
    made = [call("write_file", each, id=f"c{n}") for n, each in enumerate(arguments or (WRITE,))]
    model.play(calls_answer(*made))
    session = await ada.session(agent="coder")
    await ada.say(session, "go")
    events = await ada.until(session, "turn.waiting")
    return session, [event.data for event in events if event.type == "approval.requested"]


async def change(running: Running, statement: str, **values: Any) -> None:
    """Change the database behind the server's back."""
    database = running.app.state.agent.database

    async def unit(tx: Any) -> None:
        await tx.session.execute(text(statement), values)

    await database.write(unit)


async def let_time_pass(running: Running) -> None:
    """Make it later than the end of every approval."""
    values: dict[str, Any] = {"expires_at": now() - timedelta(seconds=1)}
    table = running.app.state.agent.database.schema.metadata.tables["pending_approvals"]

    async def unit(tx: Any) -> None:
        await tx.session.execute(table.update().values(values))

    await running.app.state.agent.database.write(unit)


async def test_what_nobody_decides_expires(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """After its time the call is not run, the model is told so as its result, and the turn goes on by itself."""
    running = await start(**with_model, approval_seconds=50)
    ada = await running.person()
    session, asked = await ask(ada, model, WRITE, WRITE | {"path": "b.md"})
    model.play(text_answer("Well."))
    ends = {msgspec.convert(one["expires_at"], type=type(now())) for one in asked}
    await let_time_pass(running)
    events = await ada.until(session, "turn.completed")
    resolved = [event.data for event in events if event.type == "approval.resolved"]
    told = [m for m in model.bodies[-1]["messages"] if m["role"] == "tool"]

    assert all(timedelta(seconds=40) < end - now() < timedelta(seconds=51) for end in ends)
    assert [(one["status"], one["decision"], one["decided_by"]) for one in resolved] == [("expired", None, None)] * 2
    assert [msgspec.json.decode(m["content"])["status"] for m in told] == ["expired", "expired"]
    assert not [event for event in events if event.type == "tool.requested"]
    assert last(events, "tool.completed")["status"] == "cancelled"


async def test_a_decision_after_the_end_is_none(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """It gets 409 with what became of the approval, whether or not the server has noticed the end before."""
    running = await start(**with_model)
    await running.app.state.agent._jobs.stop()
    ada = await running.person()
    session, (asked,) = await ask(ada, model)
    model.play(text_answer("Well."))
    await let_time_pass(running)
    late = await ada.decide(session, asked["approval_id"], "approve")
    again = await ada.decide(session, asked["approval_id"], "reject")
    events = await ada.until(session, "turn.completed")

    for answer in (late, again):
        assert (answer.status_code, answer.json()["code"]) == (409, "approval_decided")
        assert answer.json()["approval"]["status"] == "expired"
    assert not [event for event in events if event.type == "tool.requested"]


async def test_the_end_and_a_decision_at_once(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """Whoever comes first is right, and the call has one result."""
    running = await start(**with_model)
    ada = await running.person()
    session, (asked,) = await ask(ada, model)
    model.play(text_answer("Well."))
    await let_time_pass(running)
    expiry = running.app.state.agent.expiry
    *decisions, _, _ = await asyncio.gather(
        *(ada.decide(session, asked["approval_id"], "approve") for _ in range(3)),
        expiry.expire_overdue(),
        expiry.expire_overdue(),
    )
    events = await ada.until(session, "turn.completed")

    assert {decision.status_code for decision in decisions} == {409}
    assert [event.type for event in events].count("approval.resolved") == 1
    assert [event.type for event in events].count("tool.completed") == 1


async def test_an_end_that_came_while_no_server_ran(serve: Serve, with_model: dict[str, Any], model: Upstream) -> None:
    """The next server ends it, and its turn goes on."""
    async with serve(**with_model) as running:
        session, _ = await ask(await running.person(), model)
        model.play(text_answer("Well."))
        await running.app.state.agent._jobs.stop()
        await let_time_pass(running)
    async with serve(**with_model) as running:
        events = await (await running.person()).until(session, "turn.completed")

    assert last(events, "approval.resolved")["status"] == "expired"


async def test_what_is_kept_of_a_decision(talker: Person, model: Upstream) -> None:
    """Who decided, when, with which client, and the arguments with which it was decided."""
    session, (first, second) = await ask(talker, model, WRITE, WRITE | {"path": "b.md"})
    model.play(text_answer("Well."))
    edited = WRITE | {"content": "y"}
    one = (await talker.decide(session, first["approval_id"], "edit", modified_arguments=edited)).json()
    other = (await talker.decide(session, second["approval_id"], "reject", feedback="no")).json()

    assert (one["decided_by"], one["decided_client_id"], one["decided_arguments"]) == (talker.id, CLIENT, edited)
    assert one["modified_arguments"] == edited
    assert one["session_id"] == session
    assert other["decided_arguments"] == WRITE | {"path": "b.md"}
    assert msgspec.convert(other["decided_at"], type=type(now())) <= now()


async def test_an_approval_is_bound_to_what_was_asked(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """One whose arguments somebody changed in the database cannot be approved; it can be rejected."""
    running = await start(**with_model)
    ada = await running.person()
    session, (asked,) = await ask(ada, model)
    model.play(text_answer("Well."))
    changed = '{"content":"x","path":"../a.md"}'
    await change(running, "UPDATE pending_approvals SET arguments = :changed", changed=changed)
    refused = await ada.decide(session, asked["approval_id"], "approve")
    rejected = await ada.decide(session, asked["approval_id"], "reject")

    assert (refused.status_code, refused.json()["code"]) == (409, "approval_changed")
    assert rejected.status_code == 200


async def test_the_digest_names_the_policy(talker: Person, model: Upstream) -> None:
    """Session, agent, tool, arguments and the rules that held."""
    session, (asked,) = await ask(talker, model)
    model.play(text_answer("Well."))
    waiting = (await talker.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()["pending_approvals"]

    assert asked["digest"] == digest(session, "coder", "write_file", WRITE, Policy().version)
    assert asked["digest"] != digest(session, "coder", "write_file", WRITE)
    assert waiting[0]["details"]["policy_version"] == Policy().version


def test_a_policy_is_named_by_what_it_says() -> None:
    """Where a rule is written changes nothing; every other word of it, its layer and its place do."""
    one = Rule(tool="a", effect="ask", reason="r", source="f:1")
    other = Rule(tool="b", effect="deny", reason="r")
    policy = Policy((one, other))
    same = Policy((msgspec.structs.replace(one, source="g:7"), other))
    others = [
        Policy((other, one)),
        Policy((one,)),
        Policy((one,), session=(other,)),
        Policy((one, msgspec.structs.replace(other, path="p"))),
        Policy((one, msgspec.structs.replace(other, reason="s"))),
    ]

    assert policy.version == same.version
    assert len({policy.version, *(each.version for each in others)}) == 6
