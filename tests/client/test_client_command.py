from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from codelab.client.command import chat

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.scripted import ScriptedServer

LOGIN = ("--username", "ada", "--password-stdin")


class Run:
    """One run of ``codelab chat`` against the scripted server."""

    def __init__(self, server: ScriptedServer, root: Path, data: Path) -> None:
        self._server = server
        self._root = root
        self._environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("CODELAB_", "AGENT_", "AUTH_"))
        } | {"CODELAB_DATA_DIR": str(data)}

    async def start(self, *arguments: str, password: str = "correct horse") -> asyncio.subprocess.Process:
        """Start it; the password is on its standard input."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "codelab",
            "chat",
            "--url",
            self._server.url,
            *arguments,
            cwd=self._root,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(f"{password}\n".encode())
        process.stdin.close()
        return process

    async def __call__(self, *arguments: str, password: str = "correct horse") -> tuple[int, str, str]:
        """Run it to its end; returns exit code, standard output and standard error."""
        process = await self.start(*arguments, password=password)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def run(server: ScriptedServer, root: Path, data: Path) -> Run:
    """Runs the command in the project folder."""
    return Run(server, root, data)


@pytest.fixture
def answering(server: ScriptedServer) -> ScriptedServer:
    """A server that reads a.txt and answers."""

    async def script(turn: str, content: str) -> None:
        await server.request(turn, "c1", "read_file", {"path": "a.txt"})
        await server.take_result(turn, "read_file")
        await server.say(turn, f"You said {content}")
        await server.finish(turn, usage={"input_tokens": 1, "output_tokens": 2})

    server.script = script
    return server


async def test_standard_output_is_the_answer_and_nothing_else(answering: ScriptedServer, run: Run) -> None:
    """A script can use the output as it is; what happened meanwhile goes to standard error."""
    code, out, err = await run(*LOGIN, "--prompt", "hi")

    assert (code, out) == (0, "You said hi\n")
    assert "read_file a.txt" in err
    assert "\x1b" not in out + err


async def test_json_is_one_object(answering: ScriptedServer, run: Run) -> None:
    """``--json`` prints the answer, the ids, the status and the calls."""
    code, out, _ = await run(*LOGIN, "--prompt", "hi", "--json")
    found: dict[str, Any] = json.loads(out)

    assert code == 0
    assert (found["answer"], found["status"], found["session_id"]) == ("You said hi", "completed", "s.1")
    assert (found["turn_id"], found["usage"]["output_tokens"]) == ("t1", 2)
    assert [(call["tool_name"], call["status"]) for call in found["tool_calls"]] == [("read_file", "failed")]


async def test_continue_goes_on_with_the_folders_session(
    answering: ScriptedServer, run: Run, root: Path, data: Path
) -> None:
    """The second run logs in by itself, makes no session, and sends AGENTS.md only when it changed."""
    (root / "AGENTS.md").write_text("Be kind.\n")
    await run(*LOGIN, "--prompt", "one")
    code, out, _ = await run("--continue", "--prompt", "two")
    (root / "AGENTS.md").write_text("Be quick.")
    await run("--continue", "--prompt", "three")

    assert (code, out) == (0, "You said two\n")
    assert [body["metadata"] for body in answering.created.items] == [{"folder": str(root), "instructions": "Be kind."}]
    assert [body["metadata"]["instructions"] for body in answering.patched.items] == ["Be quick."]
    assert [body["content"] for body in answering.messages.items] == ["one", "two", "three"]


async def test_long_instructions_are_cut_to_what_the_server_takes(
    answering: ScriptedServer, run: Run, root: Path
) -> None:
    """AGENTS.md of any size makes a session; the person is told."""
    (root / "AGENTS.md").write_text('"ä\n' * 100_000)
    code, _, err = await run(*LOGIN, "--prompt", "one")
    body = json.dumps(answering.created.items[0]["metadata"], ensure_ascii=False).encode()

    assert code == 0
    assert 60_000 < len(body) <= 64 * 1024
    assert "only its beginning is used" in err


async def test_instructions_from_outside_the_folder_are_not_read(
    answering: ScriptedServer, run: Run, root: Path, tmp_path: Path
) -> None:
    """AGENTS.md may be a link, but not one that leads out."""
    (tmp_path / "private.txt").write_text("private")
    (root / "AGENTS.md").symlink_to(tmp_path / "private.txt")
    code, _, err = await run(*LOGIN, "--prompt", "one")

    assert (code, list(answering.created.items[0]["metadata"])) == (0, ["folder"])
    assert "AGENTS.md is not used" in err


async def test_an_agent_can_be_chosen(answering: ScriptedServer, run: Run) -> None:
    """For a new session it is the first one, for an old one it is switched to."""
    await run(*LOGIN, "--prompt", "one", "--agent", "architect")
    await run("--continue", "--prompt", "two", "--agent", "architect")

    assert answering.created.items[0]["agent"] == "architect"
    assert answering.switches.items == [{"target_agent": "architect"}]


async def test_a_model_can_be_chosen(answering: ScriptedServer, run: Run) -> None:
    """A new session is made with it, an old one is changed; without the option nothing is chosen."""
    await run(*LOGIN, "--prompt", "one", "--model", "large")
    await run("--continue", "--prompt", "two", "--model", "small")
    await run("--continue", "--prompt", "three")

    assert answering.created.items[0]["model"] == "large"
    assert [body["model"] for body in answering.patched.items if "model" in body] == ["small"]


async def test_images_go_with_the_message(answering: ScriptedServer, run: Run, root: Path) -> None:
    """Each is sent as data, in order, with the type that its bytes have; a message without any has no such member."""
    shots = {"shot.png": (b"GIF89a one", "image/gif"), "two": (b"\x89PNG\r\n\x1a\n two", "image/png")}
    options = []
    for name, (raw, _) in shots.items():
        (root / name).write_bytes(raw)
        options += ["--image", name]
    code, _, err = await run(*LOGIN, "--prompt", "look", *options)
    await run("--continue", "--prompt", "and now")

    assert code == 0, err
    assert [body.get("images") for body in answering.messages.items] == [
        [{"media_type": kind, "data": base64.b64encode(raw).decode()} for raw, kind in shots.values()],
        None,
    ]


async def test_what_is_no_image_is_not_sent(answering: ScriptedServer, run: Run, root: Path) -> None:
    """A file that is not there, a folder, and one that is no image: one line that names it, and nothing is begun."""
    (root / "page.png").write_text("<html>")
    for name in ("nothing.png", "page.png", "."):
        code, out, err = await run(*LOGIN, "--prompt", "look", "--image", name)
        assert (code, out) == (2, "")
        assert f"--image {name}" in err or f"'{name}'" in err
        assert "Traceback" not in err
    code, _, err = await run(*LOGIN, "--image", "page.png")

    assert (code, "--image needs --prompt." in err) == (2, True)
    assert answering.messages.items == []


async def test_a_failed_turn_is_exit_code_1(server: ScriptedServer, run: Run) -> None:
    """The reason is one line on standard error."""

    async def script(turn: str, _: str) -> None:
        await server.finish(turn, "turn.failed", code="x", error="The model is away.")

    server.script = script
    code, out, err = await run(*LOGIN, "--prompt", "hi")

    assert (code, out) == (1, "")
    assert err == "The turn failed: The model is away.\n"


async def test_ctrl_c_cancels_the_turn(server: ScriptedServer, run: Run) -> None:
    """One interrupt asks the server to stop, and the exit code is 1."""
    began = asyncio.Event()

    async def script(turn: str, _: str) -> None:
        await server.emit("turn.started", turn_id=turn, message_id="u1", agent="coder")
        began.set()

    server.script = script
    process = await run.start(*LOGIN, "--prompt", "hi")
    await asyncio.wait_for(began.wait(), 30)
    while not server.streams:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)

    assert (process.returncode, out) == (1, b"")
    assert b"The turn was cancelled" in err
    assert len(server.cancels.items) == 1


async def test_a_terminated_chat_leaves_no_command_behind(server: ScriptedServer, run: Run, root: Path) -> None:
    """A command ends with the chat that runs it, for example when the terminal is closed."""

    async def script(turn: str, _: str) -> None:
        command = {"command": "echo $$ > pid; exec sleep 300", "shell": True, "timeout": 300}
        await server.request(turn, "c1", "execute_command", command)

    server.script = script
    process = await run.start(*LOGIN, "--prompt", "hi", "--approve", "all")
    async with asyncio.timeout(30):
        while not ((root / "pid").exists() and (root / "pid").read_text().endswith("\n")):
            await asyncio.sleep(0.01)
        process.terminate()
        await process.communicate()

    assert process.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((root / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*LOGIN, "--prompt", "hi", "--session", "gone"), "Error: Session gone: Not Found"),
        (("--prompt", "hi"), "Error: You are not logged in"),
    ],
)
async def test_what_cannot_begin_is_one_line_and_exit_code_2(
    server: ScriptedServer, run: Run, arguments: tuple[str, ...], line: str
) -> None:
    """No traceback reaches the person."""
    code, out, err = await run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


async def test_a_wrong_password_is_exit_code_2(server: ScriptedServer, run: Run) -> None:
    """The line names the server and not the password."""
    code, _, err = await run(*LOGIN, "--prompt", "hi", password="guess-7")

    assert code == 2
    assert err == f"Error: Login to {server.url} failed: Invalid username or password\n"


async def test_the_data_folder_is_no_place_for_a_chat(server: ScriptedServer, data: Path) -> None:
    """Started there it refuses at once."""
    code, _, err = await Run(server, data, data)(*LOGIN, "--prompt", "hi")

    assert code == 2
    assert "codelab's own data folder" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a terminal"),
        (["--json"], "--json needs --prompt"),
        (["--prompt", " "], "the message is empty"),
        (["--prompt", "x", "--continue", "--session", "s"], "exclude each other"),
        (["--prompt", "x", "--username", "ada"], "need --url"),
        (["--prompt", "x", "--url", "https://x.org", "--password-stdin"], "needs --username"),
        (["--prompt", "x", "--url", "https://x.org", "--username", "a", "--password-stdin"], "holds no password"),
        (["--prompt", "x", "--approve", "some"], "'some' is not one of"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], message: str) -> None:
    """The line says what is wrong."""
    result = CliRunner().invoke(chat, arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_help_teaches() -> None:
    """It has examples and the exit codes, and imports nothing heavy."""
    program = (
        "import sys; from codelab.client.command import chat; chat.main(['--help'], standalone_mode=False);"
        "print([name for name in ('httpx2', 'rich', 'prompt_toolkit', 'msgspec') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert "codelab chat --continue" in out
    assert "Exit codes: 0" in out
    assert out.endswith("[]\n")
