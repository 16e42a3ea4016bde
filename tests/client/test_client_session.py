from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from codelab.client import api as api_module
from codelab.client.approvals import Decision
from codelab.client.errors import ApiError, ClientError, Unreachable
from codelab.client.session import Interrupted
from codelab.client.turns import Outcome
from codelab.client.wire import ActiveTurn, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.conftest import Desk, Script
    from tests.client.scripted import ScriptedServer

YES = Decision("approve")
WRITE = {"path": "hello.py", "content": "print('hi')\n"}


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost server is given up soon."""
    monkeypatch.setattr(api_module, "BACKOFF", (0.01, 0.01, 0.01))


class TestAnswers:
    async def test_an_answer_is_printed_once_as_it_comes(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """Deltas are printed as they come, and the complete message adds nothing to them."""

        async def script(turn: str, _: str) -> None:
            await server.say(turn, "Hello there")
            await server.finish(turn, message_id="m1", usage={"input_tokens": 1, "output_tokens": 2})

        server.script = script
        desk = make_desk()
        outcome = await desk.conversation.send("hi")

        assert desk.answers.getvalue() == "Hello there\n"
        assert (outcome.status, outcome.answer, outcome.turn_id) == ("completed", "Hello there", "t1")
        assert outcome.usage == {"input_tokens": 1, "output_tokens": 2}

    @pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
    async def test_a_broken_stream_loses_and_repeats_nothing(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], cut: int
    ) -> None:
        """Wherever the stream breaks, it goes on at the cursor."""

        async def script(turn: str, _: str) -> None:
            await server.say(turn, "Hello there")
            await server.finish(turn)

        server.script = script
        server.cuts = [cut]
        desk = make_desk()
        await desk.conversation.send("hi")

        assert desk.answers.getvalue() == "Hello there\n"
        assert server.streams[:2] == [0, cut]

    async def test_folded_deltas_are_filled_in_by_the_whole_message(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """Text that never came as a delta is taken from the complete message."""

        async def script(turn: str, _: str) -> None:
            await server.emit("message.started", message_id="m", turn_id=turn, agent="a", model="m")
            await server.emit("message.delta", message_id="m", offset=0, text="Hel")
            await server.complete(turn, "Hello", "m")
            await server.finish(turn)

        server.script = script
        desk = make_desk()
        await desk.conversation.send("hi")

        assert desk.answers.getvalue() == "Hello\n"

    @pytest.mark.parametrize("cut", [2, 3])
    async def test_thoughts_are_shown_once_on_a_terminal(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch, cut: int
    ) -> None:
        """Before the answer and apart from it, also when the stream breaks between them."""

        async def script(turn: str, _: str) -> None:
            await server.emit("message.started", message_id="m1", turn_id=turn, agent="a", model="m")
            await server.emit("reasoning.delta", message_id="m1", offset=0, text="Hm")
            await server.emit("reasoning.delta", message_id="m1", offset=2, text=", yes")
            await server.complete(turn, "Yes.", "m1")
            await server.finish(turn, message_id="m1")

        server.script = script
        server.cuts = [cut]
        desk = make_desk()
        monkeypatch.setattr(desk.answers, "isatty", lambda: True)
        outcome = await desk.conversation.send("hi")

        assert desk.answers.getvalue().replace("\x1b[0m\x1b[2m", "") == "\x1b[2mHm, yes\x1b[0m\nYes.\n"
        assert outcome.answer == "Yes."

    async def test_an_interrupted_answer_is_marked(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """An answer that was cut off is marked, and the one made again is the answer."""

        async def script(turn: str, _: str) -> None:
            await server.emit("message.started", message_id="m0", turn_id=turn, agent="a", model="m")
            await server.emit("message.delta", message_id="m0", offset=0, text="Half a")
            await server.complete(turn, "Half a", "m0", "interrupted")
            await server.say(turn, "Whole", "m1")
            await server.finish(turn)

        server.script = script
        desk = make_desk()
        outcome = await desk.conversation.send("hi")

        assert desk.answers.getvalue() == "Half a\nWhole\n"
        assert "interrupted" in desk.notes.getvalue()
        assert outcome.answer == "Whole"

    async def test_events_of_other_turns_and_unknown_types_are_passed_over(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path
    ) -> None:
        """Neither the text nor the calls nor the end of another turn belong to ours."""

        async def script(turn: str, _: str) -> None:
            await server.say("t0", "not ours", "m0")
            await server.request("t0", "c0", "read_file", {"path": "a.txt"})
            await server.emit("something.new", turn_id=turn, anything=[1])
            await server.finish("t0")
            await server.say(turn, "ours")
            await server.finish(turn)

        (root / "a.txt").write_text("a")
        server.script = script
        desk = make_desk()
        outcome = await desk.conversation.send("hi")

        assert outcome.answer == "ours"
        assert desk.answers.getvalue() == "ours\n"
        assert server.results.items == []

    async def test_a_failed_turn_says_why(self, server: ScriptedServer, make_desk: Callable[..., Desk]) -> None:
        """The sentence of turn.failed reaches the person."""

        async def script(turn: str, _: str) -> None:
            await server.finish(turn, "turn.failed", code="model_unavailable", error="The model does not answer.")

        server.script = script
        outcome = await make_desk().conversation.send("hi")

        assert outcome.sentence == "The turn failed: The model does not answer."

    async def test_what_a_model_says_cannot_drive_the_terminal(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """Escape sequences in an answer are printed as text."""

        async def script(turn: str, _: str) -> None:
            await server.say(turn, "\x1b]0;owned\x07\u202eabc")
            await server.finish(turn)

        server.script = script
        desk = make_desk()
        await desk.conversation.send("hi")

        assert desk.answers.getvalue() == "\\x1b]0;owned\\x07\\u202eabc\n"


class TestConnection:
    async def test_a_lost_server_is_given_up_with_one_sentence(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """Trying again is bounded."""
        server.cuts = [1] + [0] * 20
        with pytest.raises(Unreachable, match="connection to the server was lost"):
            await make_desk().conversation.send("hi")

    async def test_a_refused_token_is_renewed_once(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """A 401 renews the token and the request goes through."""

        async def script(turn: str, _: str) -> None:
            await server.finish(turn)

        server.script = script
        server.tokens = {"another"}

        assert (await make_desk().conversation.send("hi")).status == "completed"
        assert len(server.messages.items) == 1

    async def test_an_event_of_another_shape_is_an_error_not_a_traceback(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """A server that sends nonsense gets one clear line."""

        async def script(turn: str, _: str) -> None:
            await server.emit("tool.requested", turn_id=turn, call_id=7)

        server.script = script
        with pytest.raises(ClientError, match="something unexpected"):
            await make_desk().conversation.send("hi")


class TestCalls:
    async def test_a_read_runs_without_a_question(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """Reading in the folder needs no yes; the result goes back under the call's id."""
        (root / "a.txt").write_text("one\ntwo\n")
        results: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.request(turn, "c1", "read_file", {"path": "a.txt"})
            results.append(await server.take_result(turn, "read_file"))
            await server.finish(turn)

        server.script = script
        outcome = await make_desk().conversation.send("hi")

        assert results[0]["result"]["content"] == "one\ntwo\n"
        assert outcome.tool_calls == [
            {
                "call_id": "c1",
                "tool_name": "read_file",
                "status": "completed",
                "arguments": {"path": "a.txt"},
                "error": None,
            }
        ]
        assert person.asked == []

    async def test_calls_run_side_by_side(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path
    ) -> None:
        """Two commands that wait for each other both end."""
        one = {"command": "touch a; until [ -e b ]; do sleep 0.01; done", "shell": True}
        two = {"command": "touch b; until [ -e a ]; do sleep 0.01; done", "shell": True}

        async def script(turn: str, _: str) -> None:
            await server.request(turn, "c1", "execute_command", one)
            await server.request(turn, "c2", "execute_command", two)
            for _number in range(2):
                await server.take_result(turn, "execute_command")
            await server.finish(turn)

        server.script = script
        outcome = await make_desk("all").conversation.send("hi")

        assert [call["status"] for call in outcome.tool_calls] == ["completed", "completed"]

    async def test_an_unknown_tool_is_an_error_for_the_model(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """A tool that this client lacks does not stop the turn."""
        results: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.request(turn, "c1", "launch_rocket", {})
            results.append(await server.take_result(turn, "launch_rocket"))
            await server.finish(turn)

        server.script = script
        await make_desk().conversation.send("hi")

        assert "no such tool" in results[0]["error"]


class TestTrust:
    async def test_a_write_that_nobody_asked_about_is_asked_here(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """tool.requested with approval_id null does not write before this person says yes."""

        async def script(turn: str, _: str) -> None:
            await server.request(turn, "c1", "write_file", WRITE)
            await server.take_result(turn, "write_file")
            await server.finish(turn)

        async def look_first() -> Decision:
            assert not (root / "hello.py").exists()
            return YES

        server.script = script
        person.answers = [look_first]
        await make_desk().conversation.send("hi")

        assert (root / "hello.py").read_text() == WRITE["content"]
        assert "+print('hi')" in person.shown[0]

    async def test_an_approved_write_runs_without_a_second_question(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """One yes serves for the call that it was given for."""

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            assert await server.decisions.wait() == {"approval_id": "a1", "decision": "approve"}
            await server.request(turn, "c1", "write_file", WRITE, "a1")
            await server.take_result(turn, "write_file")
            await server.finish(turn)

        server.script = script
        person.answers = [YES]
        outcome = await make_desk().conversation.send("hi")

        assert outcome.tool_calls[0]["status"] == "completed"
        assert (root / "hello.py").exists()

    async def test_other_arguments_than_the_approved_ones_are_asked_about_again(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """A server that swaps the arguments after the yes does not get them run."""
        results: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            await server.decisions.wait()
            await server.request(turn, "c1", "write_file", WRITE | {"content": "import os\n"}, "a1")
            results.append(await server.take_result(turn, "write_file"))
            await server.finish(turn)

        server.script = script
        person.answers = [YES, Decision("reject", feedback="not that")]
        await make_desk().conversation.send("hi")

        assert results[0] == {"call_id": "c1", "error": "User rejected: not that"}
        assert len(person.asked) == 2
        assert not (root / "hello.py").exists()

    async def test_one_yes_does_not_serve_twice(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """The same call, requested again after it ran, is asked about again."""
        arguments = {"command": "echo x >> log", "shell": True}

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "execute_command", arguments, "a1")
            await server.decisions.wait()
            for _number in range(2):
                await server.request(turn, "c1", "execute_command", arguments, "a1")
                await server.take_result(turn, "execute_command")
            await server.finish(turn)

        server.script = script
        person.answers = [YES, Decision("reject")]
        await make_desk().conversation.send("hi")

        assert (root / "log").read_text() == "x\n"

    async def test_an_edit_is_sent_and_only_the_edited_call_runs(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """The person's own arguments are what runs."""
        edited = WRITE | {"content": "print('bye')\n"}

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            decision = await server.decisions.wait()
            assert decision == {"approval_id": "a1", "decision": "edit", "modified_arguments": edited}
            await server.request(turn, "c1", "write_file", edited, "a1")
            await server.take_result(turn, "write_file")
            await server.finish(turn)

        server.script = script
        person.answers = [Decision("edit", arguments=edited)]
        await make_desk().conversation.send("hi")

        assert (root / "hello.py").read_text() == "print('bye')\n"
        assert len(person.asked) == 1

    async def test_a_rejected_approval_carries_the_reason(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script
    ) -> None:
        """The agent hears why."""
        sent: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            sent.append(await server.decisions.wait())
            await server.finish(turn)

        server.script = script
        person.answers = [Decision("reject", feedback="use pathlib")]
        await make_desk().conversation.send("hi")

        assert sent == [{"approval_id": "a1", "decision": "reject", "feedback": "use pathlib"}]

    async def test_a_decision_taken_elsewhere_is_no_error(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script
    ) -> None:
        """409 approval_decided is told and the turn goes on."""

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            await server.decisions.wait()
            await server.emit("approval.resolved", approval_id="a1", call_id="c1", turn_id=turn, status="rejected")
            await server.finish(turn)

        server.script = script
        server.refusals = [(409, "approval_decided")]
        person.answers = [YES]

        assert (await make_desk().conversation.send("hi")).status == "completed"

    async def test_a_question_that_became_moot_is_taken_back(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script
    ) -> None:
        """When somebody else decides, this person is no longer asked."""
        taken_back = asyncio.Event()
        open_question = asyncio.Event()

        async def wait_for_ever() -> Decision:
            open_question.set()
            try:
                await asyncio.Event().wait()
            finally:
                taken_back.set()
            return YES

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            await open_question.wait()
            await server.emit("approval.resolved", approval_id="a1", call_id="c1", turn_id=turn, status="approved")
            await taken_back.wait()
            await server.finish(turn)

        server.script = script
        person.answers = [wait_for_ever]

        assert (await make_desk().conversation.send("hi")).status == "completed"


class TestModes:
    async def test_none_rejects_approvals_and_unasked_writes(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """With --approve none nothing is written, whichever way it is asked for."""
        seen: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            seen.append(await server.decisions.wait())
            await server.request(turn, "c2", "write_file", WRITE)
            seen.append(await server.take_result(turn, "write_file"))
            await server.request(turn, "c3", "write_file", WRITE, "a1")
            seen.append(await server.take_result(turn, "write_file"))
            await server.request(turn, "c4", "read_file", {"path": ".ENV"})
            seen.append(await server.take_result(turn, "read_file"))
            await server.finish(turn)

        (root / ".ENV").write_text("KEY=1")
        server.script = script
        await make_desk("none").conversation.send("hi")

        assert seen[0] == {"approval_id": "a1", "decision": "reject", "feedback": "rejected by --approve none"}
        assert [item["error"] for item in seen[1:]] == ["User rejected: rejected by --approve none"] * 3
        assert not (root / "hello.py").exists()
        assert person.asked == []

    async def test_all_allows_without_asking(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """With --approve all approvals are approved, and files of secrets are read."""
        seen: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            seen.append(await server.decisions.wait())
            await server.request(turn, "c1", "write_file", WRITE, "a1")
            seen.append(await server.take_result(turn, "write_file"))
            await server.request(turn, "c2", "read_file", {"path": ".env"})
            seen.append(await server.take_result(turn, "read_file"))
            await server.finish(turn)

        (root / ".env").write_text("KEY=1")
        server.script = script
        await make_desk("all").conversation.send("hi")

        assert seen[0]["decision"] == "approve"
        assert seen[1]["result"]["bytes_written"] == 12
        assert seen[2]["result"]["content"] == "KEY=1"
        assert person.asked == []


class TestInterrupt:
    async def test_an_interrupt_cancels_the_turn_and_kills_its_command(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path
    ) -> None:
        """The turn ends cancelled, and no result is sent for the command that was killed."""
        desk = make_desk("all")

        async def script(turn: str, _: str) -> None:
            command = {"command": "echo $$ > pid; exec sleep 300", "shell": True}
            await server.request(turn, "c1", "execute_command", command)
            while not (root / "pid").exists() or not (root / "pid").read_text().strip():
                await asyncio.sleep(0.01)
            desk.conversation.interrupt()

        server.script = script
        outcome = await desk.conversation.send("hi")

        assert (outcome.status, outcome.error) == ("cancelled", "cancelled by the user")
        assert len(server.cancels.items) == 1
        assert server.results.items == []
        await _gone(int((root / "pid").read_text()))

    async def test_an_interrupt_at_a_question_cancels_the_turn(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script
    ) -> None:
        """Ctrl-C instead of an answer decides nothing and stops the turn."""

        async def press() -> Decision:
            raise Interrupted

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")

        server.script = script
        person.answers = [press]
        outcome = await make_desk().conversation.send("hi")

        assert outcome.status == "cancelled"
        assert server.decisions.items == []


class TestResume:
    async def test_what_a_running_turn_waits_for_is_taken_up(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """Open reads run again, open questions are put, open writes ask; what was answered stays answered."""
        (root / "a.txt").write_text("a")
        await server.emit("message.created", message_id="u1", turn_id="t1", role="user", content="go")
        await server.request("t1", "c0", "read_file", {"path": "a.txt"})
        await server.emit(
            "tool.completed", call_id="c0", turn_id="t1", tool_name="read_file", status="completed", error=None
        )
        await server.question("t1", "c9", "write_file", WRITE, "a9")
        await server.emit("approval.resolved", approval_id="a9", call_id="c9", turn_id="t1", status="approved")
        await server.request("t1", "c9", "write_file", WRITE, "a9")
        await server.request("t1", "c1", "read_file", {"path": "a.txt"})
        await server.question("t1", "c2", "create_directory", {"path": "d"}, "a2")
        await server.emit("message.started", message_id="m1", turn_id="t1", agent="coder", model="fake")
        await server.emit("message.delta", message_id="m1", offset=0, text="I was say")
        session = Session("s.1", last_seq=len(server.log), active_turn=ActiveTurn("t1", "waiting"))
        person.answers = [YES, YES]

        async def go_on() -> list[str]:
            called = {(await server.results.wait())["call_id"] for _ in range(2)}
            decision = await server.decisions.wait()
            await server.emit("message.delta", message_id="m1", offset=9, text="ing")
            await server.complete("t1", "I was saying")
            await server.finish("t1")
            return [*sorted(called), decision["approval_id"]]

        desk = make_desk()
        outcome, seen = await asyncio.gather(desk.conversation.resume(session), go_on())

        assert outcome is not None
        assert seen == ["c1", "c9", "a2"]
        assert {call.tool for call in person.asked} == {"write_file", "create_directory"}
        assert desk.answers.getvalue() == "I was saying\n"

    async def test_a_session_at_rest_has_nothing_to_resume(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """Without an active turn nothing is followed."""
        assert await make_desk().conversation.resume(Session("s.1", last_seq=9)) is None
        assert server.streams == []


class TestRequests:
    async def test_an_error_of_the_server_is_its_sentence(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """A problem document becomes an error with its code and detail."""
        server.refusals = [(403, "insufficient_scope")]
        with pytest.raises(ApiError, match="refused: insufficient_scope") as caught:
            await make_desk().api.decide(server.session_id, "a1", "approve")

        assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")

    async def test_what_may_be_repeated_is_repeated(
        self, server: ScriptedServer, make_desk: Callable[..., Desk]
    ) -> None:
        """A decision that met a 503 is sent again."""
        server.refusals = [(503, "not_ready")]
        await make_desk().api.decide(server.session_id, "a1", "approve")

        assert len(server.decisions.items) == 2


async def _gone(pid: int) -> None:
    import os

    async with asyncio.timeout(10):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.01)


class TestClaims:
    async def test_a_call_of_another_client_is_left_to_it(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path
    ) -> None:
        """It is not run, a note says so, and its result is awaited."""

        async def script(turn: str, _: str) -> None:
            server.taken = {"c1"}
            await server.request(turn, "c1", "read_file", {"path": "a"})
            await server.claims.wait()
            await server.emit("tool.claimed", call_id="c1", turn_id=turn, tool_name="read_file", client_id="other")
            await server.emit(
                "tool.completed", call_id="c1", turn_id=turn, tool_name="read_file", status="completed", result={}
            )
            await server.finish(turn)

        server.script = script
        desk = make_desk()
        outcome = await desk.conversation.send("hi")

        assert server.results.items == []
        assert "another client runs this call" in desk.notes.getvalue()
        assert outcome.tool_calls[0]["status"] == "completed"

    async def test_a_call_that_is_offered_again_is_claimed_again(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path
    ) -> None:
        """What another client left is run here, under the same name as the stream's."""
        (root / "a").write_text("x")

        async def script(turn: str, _: str) -> None:
            server.taken = {"c1"}
            await server.request(turn, "c1", "read_file", {"path": "a"})
            await server.claims.wait()
            server.taken = set()
            await server.request(turn, "c1", "read_file", {"path": "a"})
            await server.take_result(turn, "read_file")
            await server.finish(turn)

        server.script = script
        outcome = await make_desk().conversation.send("hi")

        assert outcome.tool_calls[0]["status"] == "completed"
        assert {made["client_id"] for made in server.claims.items} == set(server.clients)

    async def test_an_unknown_outcome_is_a_persons_to_decide(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], root: Path, person: Script
    ) -> None:
        """A yes that was given before does not serve; with --approve all, nobody is there to say it."""
        decisions: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            await server.question(turn, "c1", "write_file", WRITE, "a1")
            decisions.append(await server.decisions.wait())
            await server.question(turn, "c1", "write_file", WRITE, "a2", request_type="unknown_outcome")
            decisions.append(await server.decisions.wait())
            await server.finish(turn)

        server.script = script
        person.answers = [YES, Decision("reject")]
        await make_desk().conversation.send("hi")
        await make_desk("all").conversation.send("hi")

        assert [made["decision"] for made in decisions] == ["approve", "reject", "approve", "reject"]
        assert len(person.asked) == 2
        assert not (root / "hello.py").exists()


REASON = "This turn has made 50 model calls, and the limit is 50. Go on?"


async def at_limit(server: ScriptedServer, turn: str, tool: str = "continue_turn") -> dict[str, Any]:
    """Let a turn reach a limit; return what was decided."""
    arguments = WRITE if tool == "write_file" else {"limit": "steps", "used": 50, "allowance": 50}
    await server.question(turn, f"limit-{turn}-1", tool, arguments, f"a-{turn}", "limit", REASON)
    return await server.decisions.wait()


class TestLimits:
    @pytest.mark.parametrize("mode", ["ask", "all"])
    async def test_a_person_is_asked(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script, mode: str
    ) -> None:
        """With ``--approve all`` too: it allows calls, and no turn without end."""
        decisions: list[dict[str, Any]] = []

        async def script(turn: str, _: str) -> None:
            decisions.append(await at_limit(server, turn))
            await server.finish(turn)

        server.script = script
        person.answers = [YES, Decision("reject", feedback="enough")]
        desk = make_desk(mode)
        await desk.conversation.send("hi")
        await desk.conversation.send("hi")

        assert [(made["decision"], made.get("feedback")) for made in decisions] == [
            ("approve", None),
            ("reject", "enough"),
        ]
        assert (person.asked_to_go_on, person.asked) == (2, [])
        assert desk.notes.getvalue().count(REASON) == 2

    @pytest.mark.parametrize("mode", ["all", "none"])
    async def test_without_a_person_the_turn_ends(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], mode: str
    ) -> None:
        """A script goes on at no limit; what it was is said."""

        async def script(turn: str, _: str) -> None:
            decision = await at_limit(server, turn)
            await server.finish(turn, "turn.cancelled", reason=decision["feedback"])

        server.script = script
        desk = make_desk(mode, alone=True)
        outcome = await desk.conversation.send("hi")

        assert server.decisions.items[0]["decision"] == "reject"
        assert outcome.sentence == f"The turn was cancelled: --approve {mode} does not go on at a limit"
        assert REASON in desk.notes.getvalue()

    async def test_a_yes_allows_no_call(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script, root: Path
    ) -> None:
        """A server that names a tool in it has to ask about the tool all the same."""

        async def script(turn: str, _: str) -> None:
            await at_limit(server, turn, "write_file")
            await server.request(turn, f"limit-{turn}-1", "write_file", WRITE, f"a-{turn}")
            await server.take_result(turn, "write_file")
            await server.finish(turn)

        server.script = script
        person.answers = [YES, Decision("reject")]
        outcome = await make_desk().conversation.send("hi")

        assert [call.tool for call in person.asked] == ["write_file"]
        assert outcome.tool_calls[0]["status"] == "failed"
        assert not (root / "hello.py").exists()

    async def test_somebody_else_decides(
        self, server: ScriptedServer, make_desk: Callable[..., Desk], person: Script
    ) -> None:
        """The question is taken away, or the late answer is told to be late."""

        async def script(turn: str, _: str) -> None:
            if turn == "t1":
                await server.question(turn, "limit-t1-1", "continue_turn", {}, "a", "limit", REASON)
                await asked.wait()
                await server.emit("approval.resolved", approval_id="a", turn_id=turn, status="approved")
            else:
                await at_limit(server, turn)
            await server.finish(turn)

        async def wait_for_ever() -> Decision:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        asked = asyncio.Event()
        server.script = script
        person.answers = [wait_for_ever, YES]
        desk = make_desk()
        first = await desk.conversation.send("hi")
        server.refusals = [(409, "approval_decided")]
        second = await desk.conversation.send("hi")

        assert (first.status, second.status) == ("completed", "completed")
        assert "somebody else has decided" in desk.notes.getvalue()


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (None, ""),
        ({"input_tokens": 1574, "output_tokens": 44}, "1,574 tokens in, 44 out"),
        (
            {"input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 8, "cost": 1588, "known_cost": 1588},
            "10 tokens in (8 cached), 4 out, $0.0016",
        ),
        (
            {"input_tokens": 9, "output_tokens": 1, "cost": None, "known_cost": 2_500_000},
            "9 tokens in, 1 out, at least $2.50",
        ),
        ({"input_tokens": 9, "output_tokens": 1, "cost": 0, "known_cost": 0}, "9 tokens in, 1 out"),
    ],
)
def test_what_a_turn_used_is_said_in_a_few_words(usage: Any, said: str) -> None:
    """Tokens always; the cost where it is known, and what is known of it where a part is not."""
    assert Outcome("s", "t", usage=usage).spent == said
