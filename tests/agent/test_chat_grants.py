"""Grants at the terminal, with a real server: shown before they hold, kept for exactly their calls, taken back."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from codelab.client.api import Api, http_client
from codelab.client.approvals import Approvals, Call, Decision
from codelab.client.console import Console
from codelab.client.grants import manage_grants, read_grant
from codelab.client.session import Conversation
from codelab.client.tools.paths import Folder
from codelab.client.tools.toolbox import Toolbox
from tests.agent.providers.upstream import text_answer
from tests.agent.test_approvals import WRITE
from tests.agent.transcripts import call, calls_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Running


class Access:
    """A token that is good for the whole test."""

    identity = "test"

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    async def address(self) -> str:
        """Return the address of the server."""
        return self._url

    async def token(self) -> str:
        """Return the token."""
        return self._token

    async def renew(self, refused: str) -> None:
        """Fail: nothing is refused here."""
        raise AssertionError(refused)

    async def recover(self) -> None:
        """Do nothing."""


@dataclass
class Somebody:
    """A person at a terminal who answers as planned; it keeps what was shown."""

    answers: list[Decision | bool] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    async def decide(self, call: Call, lines: list[tuple[str, str]]) -> Decision:
        """Answer as planned."""
        self.shown.append("\n".join(text for text, _ in lines))
        return self._decision()

    async def confirm(self, lines: list[tuple[str, str]]) -> bool:
        """Answer as planned."""
        self.shown.append("\n".join(text for text, _ in lines))
        return self.answers.pop(0) is True

    async def go_on(self) -> Decision:
        """Answer as planned."""
        return self._decision()

    async def answer(self, question: str, options: list[str]) -> str | None:
        """Say the first option, or nothing where there is none."""
        self.shown.append(question)
        return next(iter(options), None)

    def _decision(self) -> Decision:
        answer = self.answers.pop(0)
        assert isinstance(answer, Decision)
        return answer


@dataclass
class Seat:
    """A person in a conversation."""

    conversation: Conversation
    api: Api
    person: Somebody
    notes: io.StringIO
    console: Console


@pytest.fixture
async def seat(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], tmp_path: Path
) -> AsyncIterator[Seat]:
    """Sit down at a terminal, in a session with the coder."""
    running = await start(**with_model)
    ada = await running.person()
    session = await ada.session(agent="coder")
    for name in ("project", "data"):
        (tmp_path / name).mkdir()
    toolbox = Toolbox(Folder(tmp_path / "project", tmp_path / "data"), {"PATH": "/usr/bin:/bin"})
    token = ada.http.headers["Authorization"].removeprefix("Bearer ")
    person, notes = Somebody(), io.StringIO()
    console = Console(answers=io.StringIO(), notes=notes)
    async with http_client(running.url) as client:
        api = Api(Access(running.url, token), client)
        approvals = Approvals("ask", person, toolbox)
        yield Seat(Conversation(session, api, toolbox, approvals, console), api, person, notes, console)


async def say(seat: Seat, model: Upstream, *calls: tuple[str, dict[str, Any]]) -> None:
    """Let the model make calls, one after the other, and follow the turn to its end."""
    for tool, arguments in calls:
        model.play(calls_answer(call(tool, arguments)))
    model.play(text_answer("Well."))
    outcome = await seat.conversation.send("go")
    assert outcome.status == "completed", outcome
    assert not seat.person.answers


async def test_a_grant_is_shown_and_then_holds(seat: Seat, model: Upstream, tmp_path: Path) -> None:
    """The rule and what it would have allowed are shown before; a no grants nothing; then such calls are not asked."""
    grant = {"scope": "session"}
    seat.person.answers = [Decision("approve", grant=grant), False, Decision("approve", grant=grant), True]
    await say(seat, model, ("write_file", WRITE), ("write_file", WRITE | {"content": "y"}))
    shown = seat.person.shown[1]
    seat.person.answers = [Decision("reject")]
    await say(seat, model, ("write_file", WRITE | {"content": "z"}), ("write_file", WRITE | {"path": "b.md"}))

    assert "This would be granted: write_file a.md, with any content" in shown
    assert "for the agent coder in one session" in shown
    assert "Of your last 1 calls it would have allowed 1." in shown
    assert (tmp_path / "project" / "a.md").read_text() == "z"
    assert not (tmp_path / "project" / "b.md").exists()


async def test_grants_are_listed_and_taken_back(seat: Seat, model: Upstream) -> None:
    """``/grants`` shows them and revokes one; the next such call is asked again."""
    command = {"command": "ls -a"}
    await manage_grants(seat.api, seat.console, "")
    seat.person.answers = [Decision("approve", grant={"scope": "times", "times": 5}), True]
    await say(seat, model, ("execute_command", command), ("execute_command", command))
    (held,) = await seat.api.grants()
    await manage_grants(seat.api, seat.console, "")
    await manage_grants(seat.api, seat.console, f"revoke {held['grant_id']}")
    seat.person.answers = [Decision("reject")]
    await say(seat, model, ("execute_command", command))
    told = seat.notes.getvalue()

    assert "You have granted nothing." in told
    assert f"{held['grant_id']}  execute_command `ls -a` in .; for the agent coder in one session, 4 times" in told
    assert "It is taken back" in told
    assert await seat.api.grants() == []


async def test_what_cannot_be_granted_is_said(seat: Seat, model: Upstream) -> None:
    """And the question comes again."""
    seat.person.answers = [Decision("approve", grant={"scope": "session"}), Decision("reject")]
    await say(seat, model, ("execute_command", {"command": "ls; rm x"}))

    assert "This cannot be granted: grant: a command with more than plain words" in seat.notes.getvalue()


class TestMemory:
    """The chat believes the server that a call is granted only where this person granted such a call here."""

    def test_a_grant_is_for_such_calls(self) -> None:
        """Another file, another command, folder or shell, another approval, or none: it is asked."""
        memory = Approvals.__new__(Approvals)
        memory._later = {}
        write, run = (
            Call("t", "c", "write_file", WRITE),
            Call("t", "c", "execute_command", {"command": "ls", "timeout": 5}),
        )
        memory.grant_later("a", write)
        memory.grant_later("b", run)

        def held(approval: str | None, tool: str, **arguments: Any) -> bool:
            return memory.is_granted(approval, Call("u", "d", tool, arguments))

        assert held("a", "write_file", path="a.md", content="other")
        assert held("b", "execute_command", command="ls", timeout=9)
        assert not held("a", "write_file", path="b.md", content="x")
        assert not held("a", "write_file", path="a.md", content="x", backup=True)
        assert not held("a", "delete_file", path="a.md")
        assert not held("b", "execute_command", command="ls x")
        assert not held("b", "execute_command", command="ls", cwd="src")
        assert not held("b", "execute_command", **({"command": "ls"} | {"shell": True}))
        assert not held("b", "write_file", path="a.md", content="x")
        assert not held("c", "write_file", path="a.md", content="x")
        assert not held(None, "write_file", path="a.md", content="x")

    @pytest.mark.parametrize("word", ["once", "turn", "session", "agent", "all_sessions"])
    def test_words(self, word: str) -> None:
        """Each scope that needs nothing more, and numbers."""
        assert read_grant(word) == {"scope": word}
        assert read_grant(f" {word} ") == {"scope": word}

    def test_numbers(self) -> None:
        """N times, up to 1000; everything else is no grant."""
        assert read_grant("5 times") == {"scope": "times", "times": 5}
        assert [read_grant(text) for text in ("", "0 times", "1001 times", "always", "5", "x times", "² times")] == [
            None
        ] * 7
