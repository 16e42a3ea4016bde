from __future__ import annotations

import asyncio
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.client.scripted import ScriptedServer

WRITE = {"path": "hello.py", "content": "print('hi')\n"}


class Typist:
    """A person at a real terminal."""

    def __init__(self, child: Any) -> None:
        self.child = child

    async def sees(self, *texts: str) -> None:
        """Wait for texts, one after the other."""
        for text in texts:
            await asyncio.to_thread(self.child.expect_exact, text, 30)

    async def types(self, text: str) -> None:
        """Type a line."""
        await asyncio.to_thread(self.child.send, text + "\r")

    async def presses(self, key: str) -> None:
        """Press Control and a key."""
        await asyncio.to_thread(self.child.sendcontrol, key)

    async def leaves(self) -> int:
        """Wait for the end; returns the exit code."""
        await asyncio.to_thread(self.child.expect, pexpect.EOF, 30)
        await asyncio.to_thread(self.child.close)
        return int(self.child.exitstatus)


@pytest.fixture
def sit_down(server: ScriptedServer, root: Path, data: Path, tmp_path: Path) -> Iterator[Callable[..., Typist]]:
    """Call it to start a chat in a terminal."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/hi/bye/ "$1"\n')
    editor.chmod(0o755)
    children: list[Any] = []

    def start(*arguments: str) -> Typist:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "EDITOR": str(editor),
            "CODELAB_DATA_DIR": str(data),
            # pexpect does not answer when it is asked where the cursor is.
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        command = ["-m", "codelab", "chat", "--url", server.url, *arguments]
        child = pexpect.spawn(
            sys.executable, command, cwd=str(root), env=environ, encoding="utf-8", dimensions=(50, 200)
        )
        children.append(child)
        return Typist(child)

    yield start
    for child in children:
        child.close(force=True)


async def log_in(person: Typist) -> None:
    """Log in as ada."""
    await person.sees("Username: ")
    await person.types("ada")
    await person.sees("Password: ")
    await person.types("correct horse")
    await person.sees("/help lists the commands", "codelab>")


def asking(server: ScriptedServer, decided: list[dict[str, Any]]) -> None:
    """Let the server ask about a write for each message, and run it when it was approved."""

    async def script(turn: str, _: str) -> None:
        approval = f"a-{turn}"
        await server.question(turn, "c1", "write_file", WRITE, approval)
        decision = await server.decisions.wait()
        decided.append(decision)
        if decision["decision"] != "reject":
            arguments = decision.get("modified_arguments", WRITE)
            await server.request(turn, "c1", "write_file", arguments, approval)
            await server.take_result(turn, "write_file")
        await server.say(turn, f"done {turn}", f"m-{turn}")
        await server.finish(turn)

    server.script = script


async def test_a_talk_with_questions(
    server: ScriptedServer, sit_down: Callable[..., Typist], root: Path, data: Path
) -> None:
    """Log in, see a diff, refuse with a reason, allow, edit, leave; the password is never shown."""
    decided: list[dict[str, Any]] = []
    asking(server, decided)
    person = sit_down()
    await log_in(person)
    await person.types("make hello")
    await person.sees("because of the policy", "+print('hi')", "Allow?")
    await person.types("maybe")
    await person.sees("answer y, n, edit or grant", "Allow?")
    await person.types("n use pathlib")
    await person.sees("done t1", "coder>")
    await person.types("again")
    await person.sees("Allow?")
    await person.types("y")
    await person.sees("done t2", "coder>")

    assert (root / "hello.py").read_text() == "print('hi')\n"
    await person.types("and again")
    await person.sees("Allow?")
    await person.types("edit")
    await person.sees("done t3", "coder>")

    assert (root / "hello.py").read_text() == "print('bye')\n"
    await person.types("/exit")

    assert await person.leaves() == 0
    assert [(item["decision"], item.get("feedback")) for item in decided] == [
        ("reject", "use pathlib"),
        ("approve", None),
        ("edit", None),
    ]
    assert stat.S_IMODE((data / "history").stat().st_mode) == 0o600
    assert "correct horse" not in (data / "history").read_text()


async def test_a_turn_at_a_limit(server: ScriptedServer, sit_down: Callable[..., Typist]) -> None:
    """A plain question: y goes on, n with a reason ends the turn; there is nothing to edit."""

    async def script(turn: str, _: str) -> None:
        reason = "This turn has made 50 model calls, and the limit is 50. Go on?"
        await server.question(turn, f"limit-{turn}-1", "continue_turn", {}, f"a-{turn}", "limit", reason)
        decision = await server.decisions.wait()
        if decision["decision"] == "approve":
            await server.say(turn, f"done {turn}", f"m-{turn}")
            await server.finish(turn)
        else:
            await server.finish(turn, "turn.cancelled", reason=decision["feedback"])

    server.script = script
    person = sit_down()
    await log_in(person)
    await person.types("work")
    await person.sees("the limit is 50. Go on?", "[y]es, [n]o (a reason may follow):")
    await person.types("edit")
    await person.sees("Please answer y or n.", "[y]es, [n]o")
    await person.types("y")
    await person.sees("done t1", "coder>")
    await person.types("work more")
    await person.sees("the limit is 50. Go on?", "[y]es, [n]o")
    await person.types("n that is enough")
    await person.sees("The turn was cancelled: that is enough", "coder>")
    await person.types("/exit")

    assert await person.leaves() == 0
    assert [made["decision"] for made in server.decisions.items] == ["approve", "reject"]


async def test_ctrl_c_stops_the_turn_and_the_talk_goes_on(
    server: ScriptedServer, sit_down: Callable[..., Typist]
) -> None:
    """Once in a running turn, once at a question, and at the prompt it leaves."""

    async def script(turn: str, _: str) -> None:
        await server.emit("message.started", message_id=turn, turn_id=turn, agent="coder", model="fake")
        await server.emit("message.delta", message_id=turn, offset=0, text=f"thinking {turn} …")
        if turn == "t2":
            await server.question(turn, "c1", "write_file", WRITE, "a1")

    server.script = script
    person = sit_down()
    await log_in(person)
    await person.types("count")
    await person.sees("thinking t1")
    await person.presses("c")
    await person.sees("Cancelling", "The turn was cancelled", "coder>")
    await person.types("write")
    await person.sees("Allow?")
    await person.presses("c")
    await person.sees("The turn was cancelled", "coder>")
    await person.presses("c")
    await person.sees("codelab chat --continue")

    assert await person.leaves() == 0
    assert len(server.cancels.items) == 2
    assert server.decisions.items == []


async def test_a_second_ctrl_c_leaves(server: ScriptedServer, sit_down: Callable[..., Typist]) -> None:
    """When the server does not stop the turn, the person still gets out."""

    async def script(turn: str, _: str) -> None:
        server.active_turn = None
        await server.emit("message.started", message_id="m", turn_id=turn, agent="coder", model="fake")
        await server.emit("message.delta", message_id="m", offset=0, text="thinking")

    server.script = script
    person = sit_down()
    await log_in(person)
    await person.types("count")
    await person.sees("thinking")
    await person.presses("c")
    await person.sees("Cancelling")
    await person.presses("c")

    assert await person.leaves() == 1


async def test_ctrl_c_at_the_password_leaves(server: ScriptedServer, sit_down: Callable[..., Typist]) -> None:
    """Nobody has to finish a login to get out."""
    person = sit_down()
    await person.sees("Username: ")
    await person.types("ada")
    await person.sees("Password: ")
    await person.presses("c")

    assert await person.leaves() == 1
    assert server.logins.items == []


async def test_commands_and_the_way_back(server: ScriptedServer, sit_down: Callable[..., Typist]) -> None:
    """Slash commands answer, and --continue shows what was said and takes up an open question."""

    async def script(turn: str, _: str) -> None:
        await server.say(turn, "Nice to meet you")
        await server.finish(turn)

    server.script = script
    person = sit_down()
    await log_in(person)
    await person.types("/session")
    await person.sees("no session yet")
    await person.types("hello")
    await person.sees("Nice to meet you", "coder>")
    await person.types("/agents")
    await person.sees("coder: writes code", "coder>")
    await person.types("/session")
    await person.sees("s.1", "coder>")
    await person.types("/models")
    await person.sees("large", "coder>")
    await person.types("/model large")
    await person.sees("large answers from now on", "coder>")
    await person.types("/agent architect")
    await person.sees("with architect now", "architect>")
    await person.types("/nonsense")
    await person.sees("is not a command", "architect>")
    await person.presses("d")

    assert await person.leaves() == 0
    assert server.switches.items == [{"target_agent": "architect"}]
    assert server.patched.items == [{"model": "large"}]

    await server.emit("message.created", message_id="u2", turn_id="t9", role="user", content="write it")
    await server.question("t9", "c1", "write_file", WRITE, "a9")
    server.active_turn = {"turn_id": "t9", "state": "waiting"}
    back = sit_down("--continue")
    await back.sees("hello", "Nice to meet you", "still running", "+print('hi')", "Allow?")
    await back.types("n")
    await server.decisions.wait()
    await server.say("t9", "All right", "m9")
    await server.finish("t9")
    await back.sees("All right", "coder>")
    await back.presses("d")

    assert await back.leaves() == 0
