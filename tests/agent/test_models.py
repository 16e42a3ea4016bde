"""Whole turns with a model server: what it is sent, and what becomes of what it says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from codelab.agent.agents import load_agents
from tests.agent.conftest import API_KEY
from tests.agent.providers.upstream import STALL, chunk, chunks_of, event, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types
from tests.agent.witness import Witness

if TYPE_CHECKING:
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person


class TestText:
    async def test_each_token_reaches_the_client_when_it_comes(self, model: Upstream, talker: Person) -> None:
        """The model says the next word only after the client has read the one before."""
        words = ["Once", " upon", " a", " time", " 🕰"]
        gates = [asyncio.Event() for _ in words]
        pieces: list[Any] = []
        for word, gate in zip(words, gates, strict=True):
            pieces += [text_of(word), gate]
        model.play(*pieces, chunks_of(chunk(finish="stop", usage={"prompt_tokens": 7, "completion_tokens": 5})))
        session = await talker.session(agent="ask")
        heard = ""
        async with talker.following(session) as events:
            await talker.say(session, "tell me")
            async with asyncio.timeout(30):
                async for each in events:
                    if each.type == "message.delta":
                        heard += each.data["text"]
                        gates[words.index(each.data["text"])].set()
                    if each.type in END:
                        break
        history = await talker.history(session)
        events_of = await talker.until(session, *END)

        assert heard == "".join(words) == history[1]["content"] == last(events_of, "message.completed")["content"]
        used = {name: last(events_of, name)["usage"] for name in ("message.completed", "turn.completed")}
        assert {(usage["input_tokens"], usage["output_tokens"]) for usage in used.values()} == {(7, 5)}

    async def test_no_transaction_is_open_while_the_model_is_silent(
        self, model: Upstream, talker: Person, migrated: DatabaseUrls
    ) -> None:
        """One session waits for its model; another completes, and any program may write (W5)."""
        model.play(text_of("Well"), STALL)
        model.play(text_answer("Done."))
        slow, quick = await talker.session(agent="ask"), await talker.session(agent="ask")
        await talker.say(slow, "think")
        await talker.until(slow, "message.delta")
        await talker.say(quick, "be quick")
        await talker.until(quick, "turn.completed")
        async with Witness.at(migrated) as witness:
            await witness.assert_no_open_transaction()
        cancelled = await talker.http.post(f"/api/v1/sessions/{slow}/cancel")

        assert cancelled.json()["state"] == "cancelled"
        await asyncio.wait_for(model.closed_by_client.wait(), 30)

    async def test_what_the_model_is_told(self, model: Upstream, talker: Person) -> None:
        """The agent's prompt and tools, the instructions of the project, the key as bearer, the name of the model."""
        model.play(text_answer("Hello."))
        session = await talker.session(agent="architect", metadata={"instructions": "Always use tabs."})
        await talker.say(session, "hello")
        events = await talker.until(session, *END)
        body, agent = model.bodies[0], load_agents()["architect"]
        system = body["messages"][0]["content"]

        assert system.startswith(agent.prompt)
        assert system.endswith("Always use tabs.")
        assert body["messages"][1:] == [{"role": "user", "content": "hello"}]
        assert [tool["function"]["name"] for tool in body["tools"]] == list(agent.tools)
        assert (body["model"], body["stream"]) == ("test-model", True)
        assert model.requests[0].headers["Authorization"] == f"Bearer {API_KEY}"
        assert last(events, "message.completed")["model"] == "test-model"
        assert API_KEY not in str(events)


class TestTools:
    async def test_fragmented_parallel_calls_are_joined(self, model: Upstream, talker: Person) -> None:
        """Two calls in interleaved pieces beside text: both are requested, and the model hears both results at once."""
        model.play(
            text_of("I will read both."),
            event(chunk(tool_calls=[{"index": 0, "id": "call_a", "function": {"name": "read_file", "arguments": ""}}])),
            event(chunk(tool_calls=[{"index": 1, "id": "call_b", "function": {"name": "read_file", "arguments": ""}}])),
            event(chunk(tool_calls=[{"index": 1, "function": {"arguments": '{"path": "b'}}])),
            event(chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"path":'}}])),
            event(chunk(tool_calls=[{"index": 0, "function": {"arguments": ' "a.txt"}'}}])),
            event(chunk(tool_calls=[{"index": 1, "function": {"arguments": '.txt"}'}}])),
            chunks_of(chunk(finish="tool_calls")),
        )
        model.play(text_answer("Both ", "read."))
        session = await talker.session(agent="ask")
        await talker.say(session, "read a and b")
        events = await talker.until(session, "turn.waiting")
        requested = [each.data for each in events if each.type == "tool.requested"]
        await talker.answer(session, "call_b", result="bee")
        half = (await talker.http.get(f"/api/v1/sessions/{session}")).json()["active_turn"]["state"]
        assert (half, len(model.bodies)) == ("waiting", 1)
        await talker.answer(session, "call_a", result={"a": 1})
        await talker.until(session, "turn.completed")
        said, *results = model.bodies[1]["messages"][2:]

        assert [(each["call_id"], each["arguments"]["path"]) for each in requested] == [
            ("call_a", "a.txt"),
            ("call_b", "b.txt"),
        ]
        assert last(events, "turn.waiting")["call_ids"] == ["call_a", "call_b"]
        assert said["content"] == "I will read both."
        assert [made["id"] for made in said["tool_calls"]] == ["call_a", "call_b"]
        assert {result["tool_call_id"]: result["content"] for result in results} == {
            "call_a": '{"a":1}',
            "call_b": "bee",
        }

    async def test_denied_calls_go_back_to_the_model(self, model: Upstream, talker: Person) -> None:
        """Nobody is asked to run them; the model reads why, and the turn goes on by itself."""
        nested = '{"path": ' + "[" * 450 + "]" * 450 + "}"
        denied = [
            call("format_disk", {}, id="unknown"),
            call("functions.read_file", {"path": "a"}, id="dotted"),
            call("", {}, id="nameless"),
            call("x" * 300, {}, id="endless"),
            call("execute_command", {"command": "ls"}, id="not_mine"),
            call("write_file", '{"path": "notes.md"', id="broken"),
            call("write_file", "[1]", id="array"),
            call("write_file", {"path": "evil.py", "content": ""}, id="python"),
            call("write_file", {"path": "notes.md/../evil.py", "content": ""}, id="dots"),
            call("write_file", {"path": "notes.md"}, id="half"),
            call("read_file", {"path": 5}, id="type"),
            call("read_file", {"path": "a", "mode": "rw"}, id="extra"),
            call("read_file", nested, id="nested"),
            call("read_file", '{"path": "a", "start_line": 1e999}', id="endless_number"),
            call("switch_mode", {"mode": "root"}, id="mode"),
        ]
        model.play(calls_answer(*denied, text="Let me try."))
        model.play(text_answer("I give up."))
        session = await talker.session(agent="architect")
        await talker.say(session, "do it")
        events = await talker.until(session, *END)
        answered = [each.data for each in events if each.type == "tool.completed"]
        results = [m for m in model.bodies[1]["messages"] if m["role"] == "tool"]

        assert events[-1].type == "turn.completed"
        assert not {"tool.requested", "approval.requested", "turn.waiting"} & set(types(events))
        assert [each["call_id"] for each in answered] == [made["id"] for made in denied]
        assert {each["status"] for each in answered} == {"denied"}
        assert all(result["content"].startswith("Error: ") for result in results)
        assert len(results) == len(denied)

    async def test_reused_call_ids_get_fresh_ones(self, model: Upstream, talker: Person) -> None:
        """A model that counts from call_0 in every answer: each call of the session has an id of its own (W9)."""
        session = await talker.session(agent="ask")
        seen: list[str] = []
        for turn in range(3):
            model.play(calls_answer(*(call("read_file", {"path": f"{turn}{n}"}, id=f"call_{n}") for n in range(2))))
            model.play(text_answer("Read."))
            accepted = await talker.say(session, "read")
            waiting = (await talker.until(session, "turn.waiting", turn=accepted["turn_id"]))[-1].data
            for call_id in waiting["call_ids"]:
                assert (await talker.answer(session, call_id, result=call_id)).json()["status"] == "completed"
            await talker.until(session, "turn.completed", turn=accepted["turn_id"])
            seen += waiting["call_ids"]
        results = {m["tool_call_id"]: m["content"] for m in model.bodies[-1]["messages"] if m["role"] == "tool"}

        assert seen[:2] == ["call_0", "call_1"]
        assert len(set(seen)) == 6
        assert results == {call_id: call_id for call_id in seen}

    async def test_the_same_call_in_two_sessions_is_two_questions(self, model: Upstream, talker: Person) -> None:
        """An approval in one session says nothing about the same call with the same id in another (W8)."""
        write = call("write_file", {"path": "a.py", "content": "1"}, id="call_0")
        sessions = [await talker.session(agent="coder") for _ in range(2)]
        approvals = []
        for session in sessions:
            model.play(calls_answer(write))
            await talker.say(session, "write")
            approvals.append(last(await talker.until(session, "turn.waiting"), "approval.requested"))
        crossed = await talker.decide(sessions[1], approvals[0]["approval_id"], "approve")
        await talker.decide(sessions[0], approvals[0]["approval_id"], "approve")
        requested = last(await talker.until(sessions[0], "tool.requested"), "tool.requested")
        other = (await talker.http.get(f"/api/v1/sessions/{sessions[1]}/pending-approvals")).json()

        assert crossed.status_code == 404
        assert requested["call_id"] == approvals[0]["call_id"] == approvals[1]["call_id"] == "call_0"
        assert approvals[0]["digest"] != approvals[1]["digest"]
        assert [each["approval_id"] for each in other["pending_approvals"]] == [approvals[1]["approval_id"]]


class TestSwitching:
    async def test_an_agent_hands_over_to_every_other(self, model: Upstream, talker: Person) -> None:
        """The next call has the prompt and the tools of the new agent; the switch is in log and history (W12-W14)."""
        agents = load_agents()
        for target in agents:
            start = "coder" if target != "coder" else "debug"
            model.play(calls_answer(call("switch_mode", {"mode": target, "reason": "better"}), text="One moment."))
            model.play(text_answer("Here I am."))
            session = await talker.session(agent=start)
            await talker.say(session, "help me")
            events = await talker.until(session, *END)
            context = (await talker.http.get(f"/api/v1/agents/{session}/current?include_history=true")).json()[
                "context"
            ]
            switch = {
                "from_agent": start,
                "to_agent": target,
                "reason": "better",
                "confidence": "medium",
                "by": "agent",
            }
            body = model.bodies[-1]

            assert body["messages"][0]["content"] == agents[target].prompt
            assert [tool["function"]["name"] for tool in body["tools"]] == list(agents[target].tools)
            assert last(events, "agent.switched") == switch
            assert last(events, "message.completed")["agent"] == target
            assert context["current_agent"] == target
            assert [entry["by"] for entry in context["switch_history"]] == ["agent"]

    async def test_a_switch_by_a_person_counts_from_the_next_call_on(self, model: Upstream, talker: Person) -> None:
        """What is being said stays with the agent that was asked, and with its tools; the next call has the new one."""
        gate = asyncio.Event()
        ask_again = [call("execute_command", {"command": "ls"}, id="run"), call("read_file", {"path": "a"}, id="read")]
        model.play(text_of("Well"), gate, calls_answer(*ask_again))
        model.play(text_answer("Done."))
        session = await talker.session(agent="ask")
        await talker.say(session, "run ls")
        await talker.until(session, "message.delta")
        switched = await talker.http.post(f"/api/v1/agents/{session}/switch", json={"target_agent": "coder"})
        gate.set()
        events = await talker.until(session, "turn.waiting")
        await talker.answer(session, "read", result="x")
        await talker.until(session, "turn.completed")

        assert switched.json()["context"]["current_agent"] == "coder"
        assert last(events, "message.completed")["agent"] == "ask"
        assert (last(events, "tool.completed")["call_id"], last(events, "tool.completed")["status"]) == (
            "run",
            "denied",
        )
        assert last(events, "turn.waiting")["call_ids"] == ["read"]
        assert model.bodies[1]["messages"][0]["content"] == load_agents()["coder"].prompt
