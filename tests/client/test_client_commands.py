from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codelab.client.tools import commands
from codelab.client.tools.commands import ExecuteCommand, command_environment, execute_command
from codelab.client.tools.errors import ToolError

if TYPE_CHECKING:
    from codelab.client.tools.paths import Folder

ENVIRON = {"PATH": "/usr/bin:/bin"}
SHELL: dict[str, Any] = {"shell": True}


async def run(folder: Folder, command: str, **options: Any) -> dict[str, Any]:
    """Run a command with a small environment."""
    return await execute_command(folder, ExecuteCommand(command, **options), ENVIRON)


async def gone(pid: int) -> None:
    """Wait until a process has ended, or is only waiting to be looked at."""
    async with asyncio.timeout(10):
        while True:
            try:
                os.kill(pid, 0)
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except (ProcessLookupError, FileNotFoundError):
                return
            await asyncio.sleep(0.01)


async def pid_in(path: Path) -> int:
    """Wait for a process to write its number."""
    async with asyncio.timeout(10):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
    return int(path.read_text())


class TestRun:
    async def test_output_and_exit_code_are_told(self, folder: Folder) -> None:
        """Both streams are kept apart."""
        assert await run(folder, "echo out; echo err >&2; exit 3", **SHELL) == {
            "exit_code": 3,
            "stdout": "out\n",
            "stderr": "err\n",
            "timed_out": False,
        }

    async def test_without_a_shell_words_are_only_words(self, folder: Folder) -> None:
        """Nothing is expanded, redirected or chained."""
        assert (await run(folder, "echo '$HOME' > x; `id`"))["stdout"] == "$HOME > x; `id`\n"

    async def test_it_runs_in_the_folder_or_below(self, folder: Folder, root: Path) -> None:
        """``cwd`` is confined like any path."""
        (root / "sub").mkdir()

        assert (await run(folder, "pwd"))["stdout"] == f"{folder.root}\n"
        assert (await run(folder, "pwd", cwd="sub"))["stdout"] == f"{folder.root}/sub\n"
        for cwd in ("..", "/", "sub/../.."):
            with pytest.raises(ToolError, match="outside the folder"):
                await run(folder, "pwd", cwd=cwd)

    async def test_it_has_no_input(self, folder: Folder) -> None:
        """A command that reads ends at once."""
        assert (await run(folder, "cat"))["exit_code"] == 0

    async def test_output_is_bounded(self, folder: Folder) -> None:
        """The beginning and the end are kept, and what was left out is said."""
        found = await run(folder, "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo last", **SHELL)

        assert found["stdout"].startswith("first\n")
        assert found["stdout"].endswith("last\n")
        assert "truncated: " in found["stdout"]
        assert len(found["stdout"]) < commands.MAX_OUTPUT + 100

    async def test_odd_bytes_become_text(self, folder: Folder) -> None:
        """Output that is not UTF-8 can still be sent."""
        assert (await run(folder, "printf '\\377'", **SHELL))["stdout"] == "\ufffd"

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("no-such-program x", "no-such-program was not found; set shell to true"),
            ("echo 'open", "cannot be split into words"),
            ("   ", "is empty"),
            ("a\0b", "U[+]0000"),
        ],
    )
    async def test_what_cannot_be_started_is_said(self, folder: Folder, command: str, message: str) -> None:
        """The model learns what was wrong with the command."""
        with pytest.raises(ToolError, match=message):
            await run(folder, command)


class TestEnd:
    async def test_a_timeout_kills_the_whole_group(self, folder: Folder, root: Path) -> None:
        """What the command started does not outlive it, also when it ignores the request to end."""
        command = "trap '' TERM; (trap '' TERM; sh -c 'echo $$ > child; sleep 300') & echo begun; wait; sleep 300"
        found = await run(folder, command, **SHELL, timeout=1)

        assert found["timed_out"] is True
        assert found["stdout"] == "begun\n"
        await gone(await pid_in(root / "child"))

    async def test_a_cancelled_command_is_killed(self, folder: Folder, root: Path) -> None:
        """Ctrl-C leaves nothing running."""
        task = asyncio.create_task(run(folder, "echo $$ > pid; sleep 300 & wait", **SHELL))
        pid = await pid_in(root / "pid")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await gone(pid)

    async def test_what_stays_behind_is_ended(self, folder: Folder, root: Path) -> None:
        """A command that leaves a child with its output open ends, and so does the child."""
        left = "sh -c 'echo $$ > child; exec sleep 300' & until [ -s child ]; do sleep 0.01; done; echo done"
        found = await run(folder, left, **SHELL)

        assert (found["exit_code"], found["stdout"]) == (0, "done\n")
        await gone(await pid_in(root / "child"))

    def test_the_timeout_is_bounded(self) -> None:
        """Nothing runs longer than five minutes."""
        assert commands.MAX_TIMEOUT == 300


class TestEnvironment:
    @pytest.mark.parametrize(
        "name",
        [
            "AGENT_RUNTIME__LLM_API_KEY",
            "AUTH_SERVICE__DB_URL",
            "CODELAB_DATA_DIR",
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "DB_PASS",
            "MYSQL_PWD",
            "AWS_PROFILE",
            "AWS_ACCESS_KEY_ID",
            "npm_config__auth",
            "GH_PAT",
            "CLIENT_SECRET",
            "SENTRY_DSN",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SESSION_COOKIE",
            "some_passwd",
        ],
    )
    def test_secrets_and_our_own_settings_are_left_out(self, name: str) -> None:
        """What a command prints goes to a model, so it does not get to see keys."""
        assert command_environment({name: "x", name.lower(): "x"}) == {}

    @pytest.mark.parametrize(
        "name",
        ["PATH", "HOME", "LANG", "LC_ALL", "TERM", "VIRTUAL_ENV", "PWD", "OLDPWD", "USER", "SHELL", "TMPDIR", "CI"],
    )
    def test_what_programs_need_is_kept(self, name: str) -> None:
        """Ordinary variables stay."""
        assert command_environment({name: "x"}) == {name: "x"}

    def test_a_password_in_an_address_is_left_out(self) -> None:
        """Whatever the variable is called."""
        environ = {"DATABASE": "postgresql://u:pw@host/db", "MIRROR": "https://host/db"}

        assert command_environment(environ) == {"MIRROR": "https://host/db"}

    async def test_the_command_sees_the_cleaned_environment(self, folder: Folder) -> None:
        """It is what the process really gets."""
        environ = ENVIRON | {"CODELAB_DATA_DIR": "x", "API_TOKEN": "y", "LANG": "C"}
        found = await execute_command(folder, ExecuteCommand("env"), environ)

        assert sorted(line.split("=")[0] for line in found["stdout"].splitlines()) == ["LANG", "PATH", "PWD"]
