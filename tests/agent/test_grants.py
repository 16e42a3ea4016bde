"""Grants: exactly the call that was decided, where and as long as was said, and not a moment longer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.policy import NotGrantable, exact_rule, matches
from codelab.agent.repository import grants
from codelab.db import now
from tests.agent.hostile_calls import DRESSED_PATHS, NOT_THE_COMMAND
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer, last

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

RM: dict[str, Any] = {"command": "rm -f x"}
NOTES = {"path": "notes.md", "content": "a"}


class Talk:
    """A conversation in which the test says what the model calls, and sees what becomes of it."""

    def __init__(self, ada: Person, model: Upstream, session: str) -> None:
        self.ada = ada
        self.model = model
        self.session = session
        self.count = 0

    async def calls(self, *calls: tuple[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Let the model make calls in a new turn; return their first events by the place of each call."""
        self.count += 1
        made = [call(tool, arguments, id=f"c{self.count}_{place}") for place, (tool, arguments) in enumerate(calls)]
        self.model.play(calls_answer(*made))
        accepted = await self.ada.say(self.session, "go")
        events = await self.ada.until(self.session, "turn.waiting", after=accepted["seq"])
        first: dict[str, dict[str, Any]] = {}
        for event in events:
            if event.type in {"tool.requested", "approval.requested", "tool.completed"}:
                first.setdefault(event.data["call_id"], {"event": event.type, **event.data})
        return {str(place): first[one["id"]] for place, one in enumerate(made)}

    async def kinds(self, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """Say of calls in a new turn what became of each, and end the turn."""
        found = [one["event"] for one in (await self.calls(*calls)).values()]
        await self.stop()
        return found

    async def stop(self) -> None:
        """End the turn."""
        await self.ada.http.post(f"/api/v1/sessions/{self.session}/cancel")

    async def grant(self, tool: str, arguments: dict[str, Any], **grant: Any) -> dict[str, Any]:
        """Approve a call with a grant, end the turn, and return the grant."""
        asked = (await self.calls((tool, arguments)))["0"]
        decided = await self.ada.decide(self.session, asked["approval_id"], "approve", grant=grant)
        assert decided.status_code == 200, decided.text
        await self.stop()
        given: dict[str, Any] = decided.json()["grant"]
        assert given["approval_id"] == asked["approval_id"]
        return given


ASKED, GRANTED = "approval.requested", "tool.requested"


@pytest.fixture
async def talk(talker: Person, model: Upstream) -> Talk:
    """A session with the coder."""
    return Talk(talker, model, await talker.session(agent="coder"))


async def another(talk: Talk, agent: str = "coder") -> Talk:
    """Begin one more session of the same person."""
    return Talk(talk.ada, talk.model, await talk.ada.session(agent=agent))


async def test_a_grant_allows_exactly_the_call_that_was_decided(talk: Talk) -> None:
    """In the session: the same words again, without a question; and nothing that is only like them (W: widening)."""
    given = await talk.grant("execute_command", RM, scope="session")
    again = (await talk.calls(("execute_command", RM)))["0"]
    await talk.stop()
    others = [{"command": c} for c in ("rm -f y", "rm -f x y", "rm -f", "rm -rf x", "rm -f x; ls", "rm -f 'x' ", "ls")]
    others += [RM | {"cwd": "src"}, RM | {"cwd": ".."}]
    kinds = await talk.kinds(*(("execute_command", other) for other in others))

    assert (again["event"], again["approval_id"]) == (GRANTED, given["approval_id"])
    assert set(kinds) == {ASKED}
    assert (given["rule"]["command"], given["rule"]["path"], given["rule"]["exact"]) == (["rm", "-f", "x"], ".", True)


async def test_a_path_is_granted_with_any_content(talk: Talk) -> None:
    """The rule names the file; another one, or the same dressed up, is asked."""
    await talk.grant("write_file", NOTES, scope="session")
    kinds = await talk.kinds(
        ("write_file", NOTES | {"content": "b"}),
        ("write_file", NOTES | {"path": "./notes.md"}),
        ("write_file", NOTES | {"path": "NOTES.md"}),
        ("write_file", NOTES | {"path": "a/notes.md"}),
        ("create_directory", {"path": "notes.md"}),
    )

    assert kinds == [GRANTED, *[ASKED] * 4]


async def test_uses_are_counted(talk: Talk) -> None:
    """Once is one more, N times are N more, also when they come in one answer; then it is asked again."""
    await talk.grant("execute_command", RM, scope="once")
    once = await talk.kinds(("execute_command", RM), ("execute_command", RM))
    await talk.grant("execute_command", {"command": "ls"}, scope="times", times=2)
    twice = await talk.kinds(*[("execute_command", {"command": "ls"})] * 4)
    listed = (await talk.ada.http.get("/api/v1/grants")).json()
    ended = (await talk.ada.http.get("/api/v1/grants", params={"ended": "true"})).json()

    assert once == [GRANTED, ASKED]
    assert twice == [GRANTED, GRANTED, ASKED, ASKED]
    assert listed == {"grants": [], "next_cursor": None}
    assert [(g["scope"], g["uses"], g["times_left"]) for g in ended["grants"]] == [("times", 2, 0), ("once", 1, 0)]
    assert all(g["last_used_at"] for g in ended["grants"])


async def test_a_grant_that_is_not_needed_is_not_used(talk: Talk, tmp_path: Path) -> None:
    """A call that is denied or allowed anyway takes none of its uses."""
    await talk.grant("execute_command", RM, scope="times", times=5)
    await talk.kinds(("read_file", {"path": "a"}), ("execute_command", {"command": "ls"}))
    (listed,) = (await talk.ada.http.get("/api/v1/grants")).json()["grants"]

    assert (listed["uses"], listed["times_left"]) == (0, 5)


async def test_a_time_ends_a_grant(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it the call is granted, after it asked."""
    until = now() + timedelta(hours=1)
    await talk.grant("execute_command", RM, scope="until", until=until.isoformat())
    before = await talk.kinds(("execute_command", RM))
    monkeypatch.setattr(grants, "now", lambda: until + timedelta(microseconds=1))
    after = await talk.kinds(("execute_command", RM))

    assert (before, after) == ([GRANTED], [ASKED])


async def test_a_turn_ends_a_grant(talk: Talk) -> None:
    """The next model call of the turn may make it again, the next turn may not."""
    asked = (await talk.calls(("execute_command", RM)))["0"]
    talk.model.play(calls_answer(call("execute_command", RM, id="again")))
    await talk.ada.decide(talk.session, asked["approval_id"], "approve", grant={"scope": "turn"})
    await talk.ada.answer(talk.session, asked["call_id"], result={})
    again = await talk.ada.events(
        talk.session, lambda event: event.type in {ASKED, GRANTED} and event.data["call_id"] == "again"
    )
    await talk.stop()
    later = await talk.kinds(("execute_command", RM))

    assert again[-1].type == GRANTED
    assert later == [ASKED]


@pytest.mark.parametrize(
    ("scope", "same_session", "other_session", "other_agent"),
    [
        ("session", GRANTED, ASKED, ASKED),
        ("agent", GRANTED, GRANTED, ASKED),
        ("all_sessions", GRANTED, GRANTED, GRANTED),
    ],
)
async def test_a_grant_holds_where_it_was_said_to(
    talk: Talk, scope: str, same_session: str, other_session: str, other_agent: str
) -> None:
    """This session, this agent anywhere, or everywhere of one person."""
    await talk.grant("execute_command", RM, scope=scope)

    assert await talk.kinds(("execute_command", RM)) == [same_session]
    assert await (await another(talk)).kinds(("execute_command", RM)) == [other_session]
    assert await (await another(talk, "debug")).kinds(("execute_command", RM)) == [other_agent]


async def test_a_grant_is_for_one_person(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """Another one is asked, does not see it, and cannot revoke it."""
    running = await start(**with_model)
    ada, bob = await running.person("ada"), await running.person("bob")
    given = await Talk(ada, model, await ada.session(agent="coder")).grant("execute_command", RM, scope="all_sessions")
    kinds = await Talk(bob, model, await bob.session(agent="coder")).kinds(("execute_command", RM))
    revoked = await bob.http.delete(f"/api/v1/grants/{given['grant_id']}")
    nothing = await bob.http.delete("/api/v1/grants/nothing")

    assert kinds == [ASKED]
    assert (await bob.http.get("/api/v1/grants", params={"ended": "true"})).json()["grants"] == []
    assert (revoked.status_code, revoked.json()["code"]) == (404, "unknown_grant")
    assert revoked.json()["detail"] == nothing.json()["detail"]
    assert len((await ada.http.get("/api/v1/grants")).json()["grants"]) == 1


async def test_revoking_counts_at_once(talk: Talk) -> None:
    """The next call is asked; a second time answers the same; the grant stays to be seen."""
    given = await talk.grant("execute_command", RM, scope="session")
    url = f"/api/v1/grants/{given['grant_id']}"
    first = (await talk.ada.http.delete(url)).json()
    second = (await talk.ada.http.delete(url)).json()
    kinds = await talk.kinds(("execute_command", RM))
    listed = (await talk.ada.http.get("/api/v1/grants")).json()["grants"]
    ended = (await talk.ada.http.get("/api/v1/grants", params={"ended": "true"})).json()["grants"]

    assert kinds == [ASKED]
    assert first["revoked_at"]
    assert first == second == ended[0]
    assert listed == []


async def test_a_preview_shows_the_rule_and_what_it_would_have_allowed(talk: Talk) -> None:
    """Of the last calls exactly the same ones, in this session or in all; nothing is changed by looking."""
    other = await another(talk)
    await other.kinds(("execute_command", RM))
    await talk.kinds(("execute_command", RM), ("execute_command", {"command": "rm -f y"}), ("read_file", {"path": "x"}))
    asked = (await talk.calls(("execute_command", RM)))["0"]
    url = f"/api/v1/sessions/{talk.session}/approvals/{asked['approval_id']}/grant-preview"
    here = (await talk.ada.http.post(url, json={"scope": "session", "times": 3})).json()
    everywhere = (await talk.ada.http.post(url, json={"scope": "agent"})).json()
    edited = (
        await talk.ada.http.post(url, json={"scope": "once", "modified_arguments": {"command": "rm -f y"}})
    ).json()
    pending = (await talk.ada.http.get(f"/api/v1/sessions/{talk.session}/pending-approvals")).json()

    assert here["rule"]["command"] == ["rm", "-f", "x"]
    assert (here["session_id"], here["agent"], here["times"], here["looked_at"]) == (talk.session, "coder", 3, 4)
    assert [c["call_id"] for c in here["calls"]] == [asked["call_id"], "c1_0"]
    assert (everywhere["session_id"], everywhere["looked_at"], len(everywhere["calls"])) == (None, 5, 3)
    assert (edited["rule"]["command"], edited["times"], len(edited["calls"])) == (["rm", "-f", "y"], 1, 1)
    assert (pending["count"], (await talk.ada.http.get("/api/v1/grants")).json()["grants"]) == (1, [])


async def test_an_edit_grants_what_was_edited(talk: Talk) -> None:
    """Not what the model had asked for."""
    asked = (await talk.calls(("execute_command", RM)))["0"]
    changed = {"command": "ls -la"}
    decided = await talk.ada.decide(
        talk.session, asked["approval_id"], "edit", modified_arguments=changed, grant={"scope": "session"}
    )
    await talk.stop()
    kinds = await talk.kinds(("execute_command", changed), ("execute_command", RM))

    assert decided.json()["grant"]["rule"]["command"] == ["ls", "-la"]
    assert kinds == [GRANTED, ASKED]


@pytest.mark.parametrize(
    ("decision", "grant", "field", "code"),
    [
        ("reject", {"scope": "session"}, "grant", "invalid_request"),
        ("approve", {"scope": "session"}, "grant", "cannot_be_granted"),
        ("approve", {"scope": "for ever"}, "grant.scope", "invalid_request"),
        ("approve", {}, "grant.scope", "invalid_request"),
        ("approve", {"scope": "times"}, "times", "invalid_request"),
        ("approve", {"scope": "times", "times": 0}, "grant.times", "invalid_request"),
        ("approve", {"scope": "once", "times": 2}, "times", "invalid_request"),
        ("approve", {"scope": "until"}, "until", "invalid_request"),
        ("approve", {"scope": "until", "until": "2099-01-01T00:00:00"}, "grant.until", "invalid_request"),
        ("approve", {"scope": "session", "until": "2001-01-01T00:00:00Z"}, "until", "invalid_request"),
    ],
)
async def test_what_cannot_be_granted_decides_nothing(
    talk: Talk, decision: str, grant: dict[str, Any], field: str, code: str
) -> None:
    """The request is refused as a whole: the approval waits as before, and no call is handed out."""
    command = {"command": "rm -f x && ls"} if code == "cannot_be_granted" else RM
    asked = (await talk.calls(("execute_command", command)))["0"]
    refused = await talk.ada.decide(talk.session, asked["approval_id"], decision, grant=grant)
    pending = (await talk.ada.http.get(f"/api/v1/sessions/{talk.session}/pending-approvals")).json()
    await talk.stop()

    assert refused.status_code == 400
    assert (refused.json()["field"], refused.json()["code"]) == (field, code)
    assert pending["count"] == 1
    assert (await talk.ada.http.get("/api/v1/grants", params={"ended": "true"})).json()["grants"] == []


async def test_a_repeated_decision_grants_once(talk: Talk) -> None:
    """With an Idempotency-Key the same answer, and one grant; with another grant it is another request."""
    asked = (await talk.calls(("execute_command", RM)))["0"]
    url = f"/api/v1/sessions/{talk.session}/approvals/{asked['approval_id']}"
    body = {"decision": "approve", "grant": {"scope": "session"}}
    first = await talk.ada.http.post(url, json=body, headers={"Idempotency-Key": "k"})
    again = await talk.ada.http.post(url, json=body, headers={"Idempotency-Key": "k"})
    other = await talk.ada.http.post(url, json={"decision": "approve"}, headers={"Idempotency-Key": "k"})
    late = await talk.ada.http.post(url, json=body)
    await talk.stop()

    assert first.content == again.content
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert (late.status_code, late.json()["code"]) == (409, "approval_decided")
    assert len((await talk.ada.http.get("/api/v1/grants")).json()["grants"]) == 1


async def test_pages_of_grants(talk: Talk) -> None:
    """The newest first, each once."""
    for name in "abc":
        await talk.grant("execute_command", {"command": f"rm {name}"}, scope="session")
    seen, cursor = [], None
    while True:
        page = (
            await talk.ada.http.get("/api/v1/grants", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [g["rule"]["command"][1] for g in page["grants"]]
        if (cursor := page["next_cursor"]) is None:
            break
    wrong = await talk.ada.http.get("/api/v1/grants", params={"cursor": "x"})

    assert seen == ["c", "b", "a"]
    assert (wrong.status_code, wrong.json()["field"]) == (400, "cursor")


async def test_the_operator_denies_what_was_granted(
    serve: Serve, with_model: dict[str, Any], model: Upstream, tmp_path: Path
) -> None:
    """A grant outlives the server, and no grant is stronger than the operator's file."""
    async with serve(**with_model) as running:
        ada = await running.person()
        talk = Talk(ada, model, await ada.session(agent="coder"))
        await talk.grant("execute_command", RM, scope="session")
    async with serve(**with_model) as running:
        talk.ada = await running.person()
        kept = await talk.kinds(("execute_command", RM))
    file = tmp_path / "policy.yaml"
    file.write_text("rules:\n  - {tool: execute_command, command: rm, effect: deny, reason: No}\n", encoding="utf-8")
    async with serve(**with_model, policy_file=file) as running:
        talk.ada = await running.person()
        talk.count += 1
        model.play(calls_answer(call("execute_command", RM, id="late")))
        model.play(text_answer("Well."))
        accepted = await talk.ada.say(talk.session, "go")
        denied = last(await talk.ada.until(talk.session, "turn.completed", after=accepted["seq"]), "tool.completed")

    assert kept == [GRANTED]
    assert (denied["status"], denied["error"]) == ("denied", "No")


def test_only_what_is_written_plainly_can_be_granted() -> None:
    """Over the hostile tables: no rule is made of any of it, and none that is made matches another call."""
    rm = exact_rule("execute_command", RM)
    notes = exact_rule("write_file", NOTES)
    plain = {"", ".", *DRESSED_PATHS} - {"."}
    made = []
    for path in plain:
        assert not matches(notes, "coder", "write_file", NOTES | {"path": path})
        try:
            made.append(exact_rule("write_file", NOTES | {"path": path}).path)
        except NotGrantable:
            continue
    for command in NOT_THE_COMMAND:
        assert not matches(rm, "coder", "execute_command", {"command": command})
        assert not matches(rm, "coder", "execute_command", {"command": f"rm -f x {command}"}) or not command.strip()

    assert {path for path in made if path not in DRESSED_PATHS} == set()
    assert all(matches(exact_rule("write_file", {"path": p}), "a", "write_file", {"path": p}) for p in made if p)
    for tool, arguments in (
        ("move_file", {"source": "a", "destination": "b"}),
        ("mcp__files__write", {"path": "a"}),
        ("switch_mode", {"mode": "coder"}),
        ("write_file", {}),
        ("write_file", {"path": ["a"]}),
        ("execute_command", {"command": "ls", "cwd": "../x"}),
        ("execute_command", {"command": "ls", "env": {}}),
        ("execute_command", {"command": "ls $HOME"}),
    ):
        with pytest.raises(NotGrantable):
            exact_rule(tool, arguments)


async def test_the_session_denies_what_was_granted(talk: Talk) -> None:
    """A rule of the session that denies is not lifted by a grant either, and takes none of its uses."""
    given = await talk.grant("execute_command", RM, scope="times", times=2)
    rule = {"tool": "execute_command", "command": "rm", "effect": "deny", "reason": "No"}
    changed = await talk.ada.http.put(f"/api/v1/sessions/{talk.session}/policy", json={"rules": [rule]})
    talk.model.play(calls_answer(call("execute_command", RM, id="late")))
    talk.model.play(text_answer("Well."))
    accepted = await talk.ada.say(talk.session, "go")
    denied = last(await talk.ada.until(talk.session, "turn.completed", after=accepted["seq"]), "tool.completed")
    listed = (await talk.ada.http.get("/api/v1/grants")).json()["grants"]

    assert changed.status_code == 200, changed.text
    assert (denied["status"], denied["error"]) == ("denied", "No")
    assert [grant["uses"] for grant in listed] == [given["uses"]] == [0]
