"""Rules of a session: its owner narrows or allows, within what the installation does not deny."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.policy import Policy
from tests.agent.providers.upstream import text_answer
from tests.agent.test_approvals import WRITE
from tests.agent.transcripts import call, calls_answer, last

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

LS: dict[str, Any] = {"command": "ls"}
ALL = {"tool": "*", "effect": "allow"}


async def set_rules(person: Person, session: str, *rules: dict[str, Any]) -> Any:
    """Set the rules of a session."""
    return await person.http.put(f"/api/v1/sessions/{session}/policy", json={"rules": list(rules)})


async def effect(person: Person, session: str | None, agent: str, tool: str, arguments: dict[str, Any]) -> str:
    """Ask what would become of a call."""
    body = {"agent": agent, "tool": tool, "arguments": arguments, "session_id": session}
    answer = await person.http.post("/api/v1/policy/explain", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["effect"])


async def test_they_hold_for_the_session_alone(running: Running, ada: Person) -> None:
    """From the next call on; the version names them, and without rules it is that of the installation."""
    one, other = await ada.session(), await ada.session()
    kept = (await set_rules(ada, one, {"tool": "write_file", "path": "docs/**", "effect": "allow"})).json()
    inside = await effect(ada, one, "coder", "write_file", WRITE | {"path": "docs/a.md"})
    outside = await effect(ada, one, "coder", "write_file", WRITE)
    elsewhere = await effect(ada, other, "coder", "write_file", WRITE | {"path": "docs/a.md"})
    shown = (await ada.http.get(f"/api/v1/sessions/{one}/policy")).json()
    emptied = (await set_rules(ada, one)).json()

    assert (inside, outside, elsewhere) == ("allow", "ask", "ask")
    assert shown == kept
    assert (kept["rules"][0]["path"], kept["rules"][0]["source"]) == ("docs/**", "session:1")
    assert kept["rules"][0]["reason"] == "The policy of this session allows this"
    assert kept["policy_version"] != emptied["policy_version"] == Policy().version


async def test_they_lift_nothing_that_is_denied(start: Callable[..., Awaitable[Running]], tmp_path: Path) -> None:
    """Neither what the operator denies nor what the built-in rules do; what the operator allows a session may deny."""
    file = tmp_path / "policy.yaml"
    rules = (
        "rules:\n"
        "  - {tool: execute_command, command: rm, effect: deny}\n"
        "  - {tool: execute_command, command: ls, effect: allow}\n"
        "  - {tool: write_file, agent: debug, path: log.md, effect: allow}\n"
    )
    file.write_text(rules, encoding="utf-8")
    ada = await (await start(policy_file=file)).person()
    session = await ada.session()
    await set_rules(ada, session, ALL)
    loose = [
        await effect(ada, session, "coder", "execute_command", {"command": "rm -f x"}),
        await effect(ada, session, "coder", "execute_command", {"command": "sudo rm x"}),
        await effect(ada, session, "debug", "write_file", WRITE),
        await effect(ada, session, "ask", "execute_command", LS),
        await effect(ada, session, "coder", "write_file", WRITE),
        await effect(ada, session, "coder", "execute_command", {"command": "$X"}),
    ]
    await set_rules(ada, session, {"tool": "execute_command", "effect": "deny"})
    strict = await effect(ada, session, "coder", "execute_command", LS)

    assert loose == ["deny", "deny", "deny", "deny", "allow", "ask"]
    assert strict == "deny"


async def test_the_gate_reads_them(talker: Person, model: Upstream) -> None:
    """A call that the session allows runs, one that it denies does not; approving passes them again."""
    session = await talker.session(agent="coder")
    await set_rules(
        talker, session, {"tool": "write_file", "effect": "allow"}, {"tool": "delete_file", "effect": "deny"}
    )
    made = [call("write_file", WRITE, id="c1"), call("delete_file", {"path": "a"}, id="c2")]
    made.append(call("execute_command", LS, id="c3"))
    model.play(calls_answer(*made))
    await talker.say(session, "go")
    events = await talker.until(session, "turn.waiting")
    asked = last(events, "approval.requested")
    await set_rules(talker, session, {"tool": "execute_command", "effect": "deny", "reason": "changed my mind"})
    refused = await talker.decide(session, asked["approval_id"], "approve")
    model.play(text_answer("Well."))
    await talker.answer(session, "c1", result={})
    await talker.decide(session, asked["approval_id"], "reject")
    await talker.until(session, "turn.completed")

    became = {event.data["call_id"]: event.type for event in events if "call_id" in event.data}
    assert became == {"c1": "tool.requested", "c2": "tool.completed", "c3": "approval.requested"}
    assert (refused.status_code, refused.json()["code"]) == (409, "denied")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"tool": "fly", "effect": "allow"}, "rules[0]: tool: there is no fly"),
        ({"tool": "write_file", "effect": "maybe"}, "rules[0]: effect: must be allow, ask or deny, not 'maybe'"),
        ({"tool": "write_file", "effect": "allow", "path": "../x"}, "rules[0]: path: is written with /"),
        ({"tool": "write_file", "effect": "allow", "path": "/etc/x"}, "rules[0]: path: only paths inside"),
        ({"tool": "execute_command", "effect": "allow", "command": "ls; rm x"}, "rules[0]: command: plain words"),
        ({"tool": "execute_command", "effect": "allow", "path": "src"}, "rules[0]: path: allows no command by itself"),
        ({"tool": "write_file", "effect": "deny", "exact": True}, "rules[0]: exact: is for an allow"),
        ({"tool": "write_file", "effect": "allow", "agent": "nobody"}, "rules[0]: agent: there is no nobody"),
        ({"tool": "write_file", "effect": "allow", "path": "a\u200bb"}, "rules[0]: path: has characters"),
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_a_rule_that_cannot_be_used(ada: Person, rule: dict[str, Any], problem: str) -> None:
    """It is refused with its place and what is wrong, and nothing is changed."""
    session = await ada.session()
    answer = await set_rules(ada, session, rule)

    assert (answer.status_code, answer.json()["detail"][: len(problem)]) == (400, problem)
    assert (await ada.http.get(f"/api/v1/sessions/{session}/policy")).json()["rules"] == []


async def test_who_may_set_them(running: Running, ada: Person) -> None:
    """Only the owner, with the scope for decisions: a client that only writes cannot allow itself anything."""
    session = await ada.session()
    writer, bob = await running.person(scope="api:read api:write"), await running.person("bob")

    assert (await set_rules(writer, session, ALL)).status_code == 403
    assert (await set_rules(bob, session, ALL)).status_code == 404
    assert (await bob.http.get(f"/api/v1/sessions/{session}/policy")).status_code == 404
    assert (await set_rules(ada, session, *[ALL] * 101)).json()["detail"] == "rules: are more than 100"
