"""Agents of an operator, one that is gone, and the one that works alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.agents import load_agents
from codelab.agent.policies import explain_call, read_policy
from codelab.errors import BadRequest, StartError
from tests.agent.providers.upstream import text_answer
from tests.agent.test_agent_files import HEAD, WRITE, write
from tests.agent.transcripts import END, call, calls_answer, last

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event


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
