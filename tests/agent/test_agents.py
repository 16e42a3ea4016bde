"""Agents as files: what a definition may say, what an operator's own do, and what becomes of one that goes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.agents import VARIABLE, load_agents
from codelab.agent.agents.definition import _MEMBERS
from codelab.agent.gate import check_call
from codelab.agent.policies import explain_call, read_policy
from codelab.agent.tools import TOOLS
from codelab.errors import BadRequest, StartError
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer, last
from tests.deploy.test_doc_commands import DOCS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event

HEAD = "name: reviewer\ndescription: Reviews changes\ntools: [read_file, write_file, switch_mode]\n"
WRITE = {"path": "notes.md", "content": "n"}


def write(folder: Path, file: str, head: str = HEAD, body: str = "You review.", *, ends: str = "\n") -> Path:
    """Write a definition; return its folder."""
    folder.mkdir(exist_ok=True)
    text = f"---\n{head}---\n{body}\n".replace("\n", ends)
    (folder / file).write_bytes(text.encode())
    return folder


class TestFile:
    def test_what_a_file_may_say(self, tmp_path: Path) -> None:
        """All members, in any order, with the line ends of any system; what follows the front matter is the prompt."""
        more = "title: The Reviewer\nmodel: small\ntemperature: 0.5\npath_rules:\n  write_file: 'docs/.*'\n"
        agent = load_agents(write(tmp_path, "r.md", more + HEAD, "\n# You\n\n---\nreview.\n", ends="\r\n"))["reviewer"]
        plain = load_agents(write(tmp_path, "r.md", HEAD + "model:\n"))["reviewer"]

        assert (agent.title, agent.description, agent.model) == ("The Reviewer", "Reviews changes", "small")
        assert (agent.temperature, agent.tools) == (0.5, ("read_file", "write_file", "switch_mode"))
        assert {tool: rule.pattern for tool, rule in agent.path_rules.items()} == {"write_file": "docs/.*"}
        assert agent.prompt == "# You\n\n---\nreview."
        assert (plain.title, plain.model, plain.temperature, plain.path_rules) == ("Reviewer Agent", None, None, {})

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("You review.", 1, "front matter between two lines of --- is expected at the beginning"),
            ("", 1, "front matter between two lines of --- is expected at the beginning"),
            (f"---\n{HEAD}", 1, "the front matter has no end: a second line of --- is expected"),
            (f"---\n{HEAD}---\n \n", 5, "the system prompt is empty: it is what follows the front matter"),
            ("---\n---\nYou.", 1, "names with values are expected in the front matter"),
            ("---\n- a\n---\nYou.", 1, "names with values are expected in the front matter"),
            (f"---\n{HEAD}colour: red\n---\nYou.", 5, "'colour' is not known here; known are name, title, "),
            (f"---\n{HEAD}name: other\n---\nYou.", 5, "name: stands here twice"),
            ("---\ndescription: d\ntools: []\n---\nYou.", 1, "name: is missing"),
            ("---\nname: a\ndescription: d\n---\nYou.", 1, "tools: is missing"),
            ("---\nname: a\ndescription: d\ntools: [read_file\n---\nYou.", 4, "expected ',' or ']'"),
            ("---\nname: a\ndescription: Plans: and writes\ntools: []\n---\nYou.", 3, "mapping values are not allowed"),
            ("---\nname: Reviewer\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            ("---\nname: 'a b'\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            (f"---\nname: {'a' * 51}\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            ("---\nname: on\ndescription: d\ntools: []\n---\nYou.", 2, "name: a text is expected"),
            ("---\nname: a\ndescription:\ntools: []\n---\nYou.", 3, "description: a text is expected"),
            ("---\nname: a\ndescription: |\n  a\n  b\ntools: []\n---\nYou.", 3, "description: one line of text"),
            ("---\nname: a\ndescription: d\ntools: read_file\n---\nYou.", 4, "tools: a list is expected"),
            (
                "---\nname: a\ndescription: d\ntools:\n- read_file\n- rm\n---\nY.",
                6,
                "tools: there is no rm; known are ",
            ),
            (
                "---\nname: a\ndescription: d\ntools: [read_file, read_file]\n---\nY.",
                4,
                "tools: read_file stands here t",
            ),
            (f"---\n{HEAD}path_rules: docs\n---\nY.", 5, "path_rules: tools with regular expressions are expected"),
            (f"---\n{HEAD}path_rules:\n  delete_file: a\n---\nY.", 6, "path_rules: delete_file is not among the tools"),
            (f"---\n{HEAD}path_rules:\n  switch_mode: a\n---\nY.", 6, "path_rules: switch_mode has no path"),
            (f"---\n{HEAD}path_rules:\n  read_file: '('\n---\nY.", 6, "path_rules.read_file: is no regular expression"),
            (f"---\n{HEAD}temperature: hot\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}temperature: 2.1\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}temperature: .nan\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}model: [small]\n---\nY.", 5, "model: a text is expected"),
        ],
    )
    def test_what_is_wrong_ends_the_start(self, tmp_path: Path, text: str, line: int, problem: str) -> None:
        """In one line that names the variable, the file, its line and what is wrong there."""
        (tmp_path / "a.md").write_text(text)
        with pytest.raises(StartError) as refused:
            load_agents(tmp_path)

        assert str(refused.value).startswith(f"{VARIABLE}: {tmp_path}/a.md, line {line}: {problem}")
        assert "\n" not in str(refused.value)

    def test_the_page_shows_one(self, tmp_path: Path) -> None:
        """The example of ``docs/agents.md`` can be used as it is, and does what the page says of it."""
        page = (DOCS / "agents.md").read_text(encoding="utf-8")
        (tmp_path / "reviewer.md").write_text(page.split("```markdown\n")[1].split("```\n")[0], encoding="utf-8")
        agents = load_agents(tmp_path)
        agent = agents["reviewer"]
        members = re.findall(r"^\| `(\w+)` \| ", page.split("| member |")[1].split("## Tools")[0], re.MULTILINE)

        def effect(path: str) -> str:
            return check_call(agent, "write_file", json.dumps({"path": path, "content": ""})).effect

        assert (effect("reviews/today.md"), effect("src/app.py"), effect("reviews/../src/a.md")) == (
            "ask",
            "deny",
            "deny",
        )
        assert (agent.title, agent.temperature) == ("Reviewer Agent", 0.2)
        assert agent.prompt.startswith("You review changes.")
        assert sorted(members) == sorted(_MEMBERS)
        assert set(TOOLS) == set(re.findall(r"`(\w+)`", page.split("## Tools")[1]))
        for name in load_agents():
            assert f"| `{name}` | " in page

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        """Other bytes, too many of them, and a folder that is not there."""
        for raw, problem in ((b"---\n\xff", "is not UTF-8"), (b"-" * 1024**2 + b"-", "is larger than 1048576 bytes")):
            (tmp_path / "a.md").write_bytes(raw)
            with pytest.raises(StartError, match=problem):
                load_agents(tmp_path)
        with pytest.raises(StartError, match=rf"^{VARIABLE}: .*nowhere cannot be read: No such file"):
            load_agents(tmp_path / "nowhere")

    def test_one_file_for_each_name(self, tmp_path: Path) -> None:
        """The line names both files; what is hidden, no ``.md`` or a folder is no definition."""
        write(tmp_path, "a.md")
        (tmp_path / "deep.md").mkdir()
        for other in (".b.md", "b.md~", "b.txt"):
            write(tmp_path, other, "nonsense")
        assert "reviewer" in load_agents(tmp_path)
        write(tmp_path, "b.md")

        expected = rf"b\.md, line 2: the agent reviewer is in {tmp_path}/a\.md already\.$"
        with pytest.raises(StartError, match=expected):
            load_agents(tmp_path)


class TestOwn:
    def test_beside_ours_and_in_their_place(self, tmp_path: Path) -> None:
        """One of another name comes after ours; one of the same name has nothing of ours any more."""
        write(tmp_path, "r.md")
        write(tmp_path, "x.md", "name: architect\ndescription: Draws\ntools: [write_file]\n", "Draw.")
        agents = load_agents(tmp_path)

        assert list(agents) == ["orchestrator", "coder", "architect", "debug", "ask", "reviewer"]
        assert (agents["architect"].prompt, agents["architect"].path_rules) == ("Draw.", {})
        assert agents["coder"].colleagues["architect"] == "Draws"
        assert list(load_agents()) == ["orchestrator", "coder", "architect", "debug", "ask"]

    def test_the_policy_knows_them(self, tmp_path: Path) -> None:
        """Rules may name them; that ask only reads holds for ours, and an operator's own has the tools that it has."""
        agents = load_agents(write(tmp_path / "agents", "r.md"))
        own = load_agents(
            write(tmp_path / "own", "a.md", "name: ask\ndescription: d\ntools: [write_file, switch_mode]\n")
        )
        (tmp_path / "policy.yaml").write_text("rules:\n  - {tool: write_file, agent: reviewer, effect: deny}\n")

        def effect(agents: Any, agent: str, tool: str = "write_file", **arguments: str) -> str:
            policy = read_policy(tmp_path / "policy.yaml" if agent == "reviewer" else None, agents)
            return explain_call(policy, agents, agent, tool, arguments or WRITE).effect

        assert (effect(agents, "reviewer"), effect(agents, "ask"), effect(own, "ask")) == ("deny", "deny", "ask")
        assert effect(agents, "reviewer", "read_file", path="a") == "allow"
        assert [effect(agents, "coder", "switch_mode", mode=mode) for mode in ("reviewer", "root")] == ["allow", "deny"]
        assert effect(own, "ask", "switch_mode", mode="reviewer") == "deny"
        with pytest.raises(StartError, match="there is no reviewer"):
            read_policy(tmp_path / "policy.yaml", load_agents())
        with pytest.raises(BadRequest, match="one of orchestrator, coder, architect, debug, ask, reviewer"):
            effect(agents, "nobody")

    async def test_they_work_like_ours(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], tmp_path: Path
    ) -> None:
        """Listed, chosen by the router, named with @, switched to by people and agents, with their own prompt."""
        folder = write(tmp_path / "agents", "r.md", HEAD + "temperature: 0.25\n")
        settings = with_model | {"agents_dir": folder, "routing": "model"}
        async with serve(**settings) as running:
            ada = await running.person()
            listed = (await ada.http.get("/api/v1/agents")).json()
            routed = await ada.session()
            model.play(text_answer('{"agent": "reviewer", "confidence": "high", "reasoning": "a review"}'))
            model.play(calls_answer(call("switch_mode", {"mode": "debug"}, id="c1")))
            model.play(calls_answer(call("switch_mode", {"mode": "reviewer"}, id="c2")))
            model.play(text_answer("Fine."))
            await ada.say(routed, "review it")
            events = await ada.until(routed, *END)
            model.play(text_answer("Fine."))
            named = await ada.session(agent="ask")
            await ada.say(named, "@reviewer look")
            switched = last(await ada.until(named, *END), "agent.switched")
            again = await ada.http.post(f"/api/v1/agents/{named}/switch", json={"target_agent": "reviewer"})

        assert listed["total"] == 6
        assert listed["agents"][-1] == {
            "type": "reviewer",
            "name": "Reviewer Agent",
            "description": "Reviews changes",
            "allowed_tools": ["read_file", "write_file", "switch_mode"],
            "has_file_restrictions": False,
        }
        assert hand_overs(events) == [
            ("orchestrator", "reviewer", "router"),
            ("reviewer", "debug", "agent"),
            ("debug", "reviewer", "agent"),
        ]
        assert "- reviewer: Reviews changes" in model.bodies[0]["messages"][0]["content"]
        assert [body["messages"][0]["content"] for body in model.bodies[1::2]] == ["You review.", "You review."]
        assert (model.bodies[1]["temperature"], "temperature" in model.bodies[2]) == (0.25, False)
        names = ["orchestrator", "coder", "architect", "debug", "ask", "reviewer"]
        for body in model.bodies[1:]:
            (offer,) = (t["function"] for t in body["tools"] if t["function"]["name"] == "switch_mode")
            assert offer["parameters"]["properties"]["mode"]["enum"] == names
            assert "\n- reviewer: Reviews changes" in offer["description"]
        assert (switched["to_agent"], switched["by"], again.json()["code"]) == ("reviewer", "user", "same_agent")


def hand_overs(events: list[Event]) -> list[tuple[str, str, str]]:
    """Return from whom, to whom and by whom a session went."""
    told = [event.data for event in events if event.type == "agent.switched"]
    return [(data["from_agent"], data["to_agent"], data["by"]) for data in told]


class TestGone:
    async def test_a_turn_goes_on_without_it(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], tmp_path: Path
    ) -> None:
        """What it asked for can only be rejected; then the orchestrator has the turn, and an event says why."""
        own = {"agents_dir": write(tmp_path / "agents", "r.md")}
        model.play(calls_answer(call("write_file", WRITE, id="c1")))
        async with serve(**with_model | own) as running:
            ada = await running.person()
            session = await ada.session(agent="reviewer")
            await ada.say(session, "review")
            await ada.until(session, "turn.waiting")
        model.play(text_answer("I take over."))
        async with serve(**with_model) as running:
            ada = await running.person()
            approval = (await ada.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()
            approval_id = approval["pending_approvals"][0]["request_id"]
            context = await ada.http.get(f"/api/v1/sessions/{session}/context")
            refused = [
                await ada.decide(session, approval_id, "approve"),
                await ada.decide(session, approval_id, "edit", modified_arguments=WRITE),
            ]
            rejected = await ada.decide(session, approval_id, "reject")
            events = await ada.until(session, *END)

        assert context.status_code == 200
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (409, "denied")
            assert "There is no agent reviewer here any more" in answer.json()["detail"]
        assert (rejected.status_code, events[-1].type) == (200, "turn.completed")
        assert hand_overs(events) == [("reviewer", "orchestrator", "router")]
        assert last(events, "agent.switched")["reason"] == "There is no agent reviewer here"
        assert model.bodies[-1]["messages"][0]["content"] == load_agents()["orchestrator"].prompt

    async def test_a_session_that_was_with_it(self, serve: Serve, tmp_path: Path) -> None:
        """Its next message is routed as a new one is; it can be switched; one that changed has lost its old tools."""
        own = {"agents_dir": write(tmp_path / "agents", "r.md")}
        async with serve(**own) as running:
            ada = await running.person()
            first, second = await ada.session(agent="reviewer"), await ada.session(agent="reviewer")
            asked = await ada.session(agent="coder")
            await ada.say(asked, "create a.txt that prints hi")
            waiting = last(await ada.until(asked, "turn.waiting"), "turn.waiting")
        head = "name: coder\ndescription: d\ntools: [read_file]\n"
        async with serve(agents_dir=write(tmp_path / "other", "c.md", head)) as running:
            ada = await running.person()
            await ada.say(first, "what is in README.md")
            events = await ada.until(first, "tool.requested")
            switched = await ada.http.post(f"/api/v1/agents/{second}/switch", json={"target_agent": "debug"})
            refused = await ada.decide(asked, waiting["approval_ids"][0], "approve")

        assert hand_overs(events) == [("reviewer", "orchestrator", "router"), ("orchestrator", "ask", "router")]
        assert switched.json()["context"]["switch_history"][0]["from_agent"] == "reviewer"
        assert (refused.status_code, refused.json()["code"]) == (409, "denied")
        assert "does not have the tool write_file" in refused.json()["detail"]


class TestSingle:
    def test_it_works_alone(self, tmp_path: Path) -> None:
        """There is nobody beside it, nor a way to hand over; an operator's own takes its place, others wait."""
        write(tmp_path, "r.md")
        write(tmp_path, "u.md", "name: universal\ndescription: d\ntools: [read_file, switch_mode]\n", "All.")
        ours, own = load_agents(multi=False), load_agents(tmp_path, multi=False)

        assert (list(ours), ours.first, list(own)) == (["universal"], "universal", ["universal"])
        assert set(load_agents()["coder"].tools) - {"switch_mode"} == set(ours["universal"].tools)
        assert (own["universal"].tools, own["universal"].prompt) == (("read_file",), "All.")
        assert "universal" not in load_agents(tmp_path)
        assert {"reviewer", "coder", "universal"} <= set(own.defined)

    async def test_every_session_runs_with_it(self, serve: Serve, model: Upstream, with_model: dict[str, Any]) -> None:
        """No model and no keyword routes, and old sessions come to it; after a task it stays."""
        async with serve(**with_model) as running:
            old = await (await running.person()).session(agent="coder")
        async with serve(**with_model | {"multi_agent_mode": False, "routing": "model"}) as running:
            ada = await running.person()
            listed = (await ada.http.get("/api/v1/agents")).json()
            new = await ada.session()
            told = []
            for session in (new, old):
                model.play(calls_answer(call("attempt_completion", {"result": "Done."}, id="c1")))
                await ada.say(session, "@coder create a file")
                told.append(await ada.until(session, *END))
            refused = await ada.http.post(f"/api/v1/agents/{new}/switch", json={"target_agent": "coder"})

        assert [agent["type"] for agent in listed["agents"]] == ["universal"]
        assert [hand_overs(events) for events in told] == [[], [("coder", "universal", "router")]]
        assert [events[-1].type for events in told] == ["turn.completed"] * 2
        assert (refused.status_code, refused.json()["detail"]) == (400, "target_agent: must be one of universal")
        for body in model.bodies:
            assert body["messages"][0]["content"] == load_agents(multi=False)["universal"].prompt
            assert "switch_mode" not in json.dumps(body["tools"])
