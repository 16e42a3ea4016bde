"""Whole turns over HTTP: what a client sends, and what the log says then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.transcripts import END, last, types
from tests.support.auth import CLIENT

if TYPE_CHECKING:
    from tests.support.server import Event, Person, Running


class TestReading:
    async def test_a_question_about_a_file_reads_it_on_the_client_and_quotes_it(self, ada: Person) -> None:
        """The answer holds what the client's tool returned, and the turn is completed."""
        session = await ada.session()
        accepted = await ada.say(session, "what is in README.md")
        events = await ada.until(session, "turn.waiting")
        call = last(events, "tool.requested")

        assert call["tool_name"] == "read_file"
        assert call["arguments"] == {"path": "README.md"}
        assert call["approval_id"] is None

        result = {"path": "README.md", "content": "Hello, quokka.\n", "total_lines": 1, "truncated": False}
        taken = await ada.answer(session, call["call_id"], result=result)
        assert taken.json()["status"] == "completed"
        events = await ada.until(session, *END)

        assert types(events) == [
            "message.created",
            "turn.started",
            "agent.switched",
            "message.started",
            "message.delta",
            "message.completed",
            "tool.requested",
            "turn.waiting",
            "tool.completed",
            "message.started",
            "message.delta",
            "message.completed",
            "turn.completed",
        ]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert "Hello, quokka." in last(events, "message.completed")["content"]
        assert last(events, "turn.completed")["turn_id"] == accepted["turn_id"]

    async def test_deltas_join_to_the_whole_answer(self, ada: Person) -> None:
        """The deltas of a message, put at their offsets, are its content."""
        session = await ada.session()
        await ada.say(session, "count to 40")
        events = await ada.until(session, *END)
        text = ""
        for event in events:
            if event.type == "message.delta":
                assert event.data["offset"] == len(text)
                text += event.data["text"]

        assert text == last(events, "message.completed")["content"]
        assert "40" in text

    async def test_a_repeated_result_changes_nothing(self, ada: Person) -> None:
        """The second answer of a call gets the recorded one, and the model sees the first only."""
        session = await ada.session()
        await ada.say(session, "what is in a.txt")
        call = last(await ada.until(session, "turn.waiting"), "tool.requested")["call_id"]
        first = (await ada.answer(session, call, result={"content": "one", "path": "a.txt"})).json()
        second = (await ada.answer(session, call, error="too late")).json()
        await ada.until(session, *END)

        assert first == second
        assert [m["content"] for m in await ada.history(session) if m["role"] == "tool"] == [
            '{"content":"one","path":"a.txt"}'
        ]

    async def test_an_unknown_call_is_not_found(self, ada: Person) -> None:
        """A result for a call that the session does not have is refused."""
        session = await ada.session()
        answer = await ada.answer(session, "call_none", result=1)

        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_call")

    async def test_what_a_tool_says_is_kept_with_replacement_characters(self, ada: Person) -> None:
        """U+0000 and lone surrogates in a result become U+FFFD on both databases."""
        session = await ada.session()
        await ada.say(session, "what is in a.bin")
        call = last(await ada.until(session, "turn.waiting"), "tool.requested")["call_id"]
        raw = f'{{"call_id": "{call}", "result": {{"content": "a\\u0000b\\ud800c", "path": "a.bin"}}}}'
        answer = await ada.http.post(
            f"/api/v1/sessions/{session}/tool-results", content=raw, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        done = last(await ada.until(session, "tool.completed"), "tool.completed")

        assert done["result"]["content"] == "a\ufffdb\ufffdc"


class TestApprovals:
    async def ask(self, ada: Person, agent: str = "coder") -> tuple[str, dict[str, Any]]:
        """Bring a session to a write that waits for a person."""
        session = await ada.session(agent=agent)
        await ada.say(session, "create hello.py that prints hi")
        return session, last(await ada.until(session, "turn.waiting"), "approval.requested")

    async def test_an_approved_write_reaches_the_client_and_only_then(self, ada: Person) -> None:
        """Before the decision nothing is requested; after it the same arguments are."""
        session, approval = await self.ask(ada)
        early = await ada.answer(session, approval["call_id"], result={})
        assert (early.status_code, early.json()["code"]) == (409, "approval_pending")

        decided = await ada.decide(session, approval["approval_id"], "approve")
        events = await ada.until(session, "tool.requested")

        assert decided.json()["status"] == "approved"
        assert types(events)[-2:] == ["approval.resolved", "tool.requested"]
        assert events[-1].data["arguments"] == approval["arguments"]
        assert events[-1].data["approval_id"] == approval["approval_id"]

    async def test_a_rejection_goes_to_the_model_and_the_answer_says_so(self, ada: Person) -> None:
        """The model reads the feedback; nothing is requested from a client."""
        session, approval = await self.ask(ada)
        await ada.decide(session, approval["approval_id"], "reject", feedback="not now")
        events = await ada.until(session, *END)

        assert "tool.requested" not in types(events)
        assert last(events, "tool.completed")["status"] == "rejected"
        assert "rejected" in last(events, "message.completed")["content"]
        tool = next(m for m in await ada.history(session) if m["role"] == "tool")
        assert "not now" in tool["content"]

    async def test_an_edit_runs_with_the_changed_arguments(self, ada: Person) -> None:
        """What a person changed is what the client is asked to run, and the model is told."""
        session, approval = await self.ask(ada)
        changed = {"path": "other.py", "content": "print('ho')\n"}
        decided = await ada.decide(session, approval["approval_id"], "edit", modified_arguments=changed)
        call = (await ada.until(session, "tool.requested"))[-1].data
        await ada.answer(session, call["call_id"], result={"path": "other.py", "bytes_written": 12, "created": True})
        await ada.until(session, *END)
        tool = next(m for m in await ada.history(session) if m["role"] == "tool")

        assert decided.json()["modified_arguments"] == changed
        assert call["arguments"] == changed
        assert "changed the arguments" in tool["content"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"decision": "edit"}, "modified_arguments"),
            ({"decision": "approve", "modified_arguments": {}}, "modified_arguments"),
            ({"decision": "edit", "modified_arguments": {"path": 5, "content": ""}}, "modified_arguments"),
            ({"decision": "edit", "modified_arguments": {"path": "x"}}, "modified_arguments"),
            (
                {"decision": "edit", "modified_arguments": {"path": "x", "content": "\x00"}},
                "modified_arguments.content",
            ),
            ({"decision": "maybe"}, "decision"),
            ({}, "decision"),
        ],
    )
    async def test_a_bad_decision_decides_nothing(self, ada: Person, body: dict[str, Any], field: str) -> None:
        """400 names the field, and the approval still waits."""
        session, approval = await self.ask(ada)
        url = f"/api/v1/sessions/{session}/approvals/{approval['approval_id']}"
        answer = await ada.http.post(url, json=body)
        pending = (await ada.http.get(f"/api/v1/sessions/{session}/pending-approvals")).json()

        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert pending["count"] == 1

    async def test_an_edit_that_the_agent_may_not_do_is_refused(self, ada: Person) -> None:
        """The architect writes Markdown only, whoever edits the path."""
        session = await ada.session(agent="architect")
        await ada.say(session, "create notes.md that says hi")
        approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
        changed = {"path": "notes.md/../evil.py", "content": ""}
        answer = await ada.decide(session, approval["approval_id"], "edit", modified_arguments=changed)

        assert (answer.status_code, answer.json()["code"]) == (400, "denied")

    async def test_of_many_decisions_one_counts(self, ada: Person) -> None:
        """Twenty at once: one 200, nineteen 409 that carry the decision."""
        session, approval = await self.ask(ada)
        answers = await asyncio.gather(
            *(ada.decide(session, approval["approval_id"], "approve" if n % 2 else "reject") for n in range(20))
        )
        won = [answer.json() for answer in answers if answer.status_code == 200]
        lost = [answer.json() for answer in answers if answer.status_code == 409]

        assert (len(won), len(lost)) == (1, 19)
        assert {problem["approval"]["status"] for problem in lost} == {won[0]["status"]}

    async def test_deciding_needs_its_scope(self, ada: Person, running: Running) -> None:
        """A token without approvals:decide gets 403 insufficient_scope."""
        session, approval = await self.ask(ada)
        token = running.app.state.auth._tokens.issue(
            user_id=ada.id, client_id=CLIENT, scope="api:read api:write", lifetime=60
        )
        url = f"/api/v1/sessions/{session}/approvals/{approval['approval_id']}"
        answer = await running.http.post(
            url, json={"decision": "approve"}, headers={"Authorization": f"Bearer {token}"}
        )

        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


class TestCancel:
    async def test_cancel_stops_a_streaming_answer_and_keeps_what_was_said(self, ada: Person) -> None:
        """The turn ends cancelled, the cut answer is marked interrupted, the session takes the next message."""
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 5000")
        await ada.until(session, "message.delta")
        cancelled = (await ada.http.post(f"/api/v1/sessions/{session}/cancel")).json()
        events = await ada.until(session, *END)
        cut = last(events, "message.completed")

        assert cancelled["state"] == "cancelled"
        assert events[-1].type == "turn.cancelled"
        assert cut["status"] == "interrupted"
        assert cut["content"]

        accepted = await ada.say(session, "count to 3")
        await ada.until(session, "turn.completed", turn=accepted["turn_id"])

    async def test_cancel_answers_open_calls_and_closes_approvals(self, ada: Person) -> None:
        """Nothing waits after a cancel: the approval is cancelled and the call has a result."""
        session = await ada.session(agent="coder")
        await ada.say(session, "create hello.py that prints hi")
        approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
        await ada.http.post(f"/api/v1/sessions/{session}/cancel")
        events = await ada.until(session, *END)
        late = await ada.decide(session, approval["approval_id"], "approve")

        assert types(events)[-3:] == ["approval.resolved", "tool.completed", "turn.cancelled"]
        assert late.status_code == 409
        assert (await ada.answer(session, approval["call_id"], result=1)).json()["status"] == "cancelled"

    async def test_cancel_right_after_the_message_cancels_its_turn(self, ada: Person) -> None:
        """A turn that has not begun yet is cancelled too, whichever moment the request meets."""
        for _ in range(5):
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "count to 500")
            cancelled = (await ada.http.post(f"/api/v1/sessions/{session}/cancel")).json()
            events = await ada.until(session, *END)

            assert cancelled == {"turn_id": accepted["turn_id"], "state": "cancelled"}
            assert events[-1].type == "turn.cancelled"

    async def test_cancel_with_nothing_to_cancel_says_so(self, ada: Person) -> None:
        """It is no error to cancel an idle session."""
        session = await ada.session()

        assert (await ada.http.post(f"/api/v1/sessions/{session}/cancel")).json() == {"turn_id": None, "state": None}


class TestConcurrency:
    async def test_fifty_messages_to_one_session_are_each_answered_once_in_order(self, ada: Person) -> None:
        """Every acknowledged message is in the history once, in the order of acknowledgement, with one answer."""
        session = await ada.session(agent="ask")
        accepted = await asyncio.gather(*(ada.say(session, "count to 2") for _ in range(50)))
        ended: set[str] = set()

        def all_ended(event: Event) -> bool:
            if event.type in END:
                assert event.type == "turn.completed", event
                ended.add(event.data["turn_id"])
            return len(ended) == 50

        events = await ada.events(session, all_ended, timeout=100)
        history = await ada.history(session)
        asked = [message["id"] for message in history if message["role"] == "user"]
        in_order = [a["message_id"] for a in sorted(accepted, key=lambda a: int(a["seq"]))]

        assert asked == in_order
        assert [message["role"] for message in history] == ["user", "assistant"] * 50
        assert [event.seq for event in events] == list(range(1, len(events) + 1))

    async def test_a_hundred_turns_in_a_hundred_sessions_all_complete(self, ada: Person) -> None:
        """A hundred people at once: each has the own message and the own answer once."""

        async def converse(number: int) -> list[dict[str, Any]]:
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, f"count to {number}")
            await ada.until(session, *END, turn=accepted["turn_id"])
            return await ada.history(session)

        histories = await asyncio.gather(*(converse(n) for n in range(1, 101)))
        for number, history in enumerate(histories, start=1):
            assert [message["role"] for message in history] == ["user", "assistant"]
            assert history[0]["content"] == f"count to {number}"
            assert str(number) in history[1]["content"]
            assert history[1]["status"] == "completed"
