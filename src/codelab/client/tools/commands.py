"""execute_command: run an approved command in the folder, in a process group that ends with it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec

from codelab.client.tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codelab.client.tools.paths import Folder

__all__ = ("MAX_TIMEOUT", "ExecuteCommand", "command_environment", "execute_command")

#: Seconds that a command may take at most.
MAX_TIMEOUT = 300
#: Bytes kept of each stream: half from its beginning, half from its end.
MAX_OUTPUT = 128 * 1024
#: Seconds between the request to end and the kill of a process group.
GRACE = 2.0
#: Seconds for the rest of the output, once the command has ended but something still holds its pipes.
DRAIN = 0.5

_OURS = ("AGENT_RUNTIME__", "AUTH_SERVICE__", "CODELAB_")
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "GCP_", "ARM_CLIENT_", "DOCKER_AUTH_")
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|JWT|BEARER|PRIVATE"
    r"|(^|_)(PASS|PAT|AUTH|DSN)(_|$)|.+_PWD$|^MYSQL_PWD$|NETRC",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]+@")


class ExecuteCommand(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``execute_command``; without ``shell`` the text is split into words and run as they are."""

    command: Annotated[str, msgspec.Meta(min_length=1)]
    cwd: str | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1)] = 60
    shell: bool = False


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for commands: nothing of codelab's, nothing that looks like a secret."""
    return {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(_OURS + _CLOUDS)
        and not _SECRET.search(name)
        and not _PASSWORD_IN_URL.search(value)
    }


async def execute_command(folder: Folder, args: ExecuteCommand, environ: Mapping[str, str]) -> dict[str, Any]:
    """Run a command and return its exit code and output.

    A negative exit code is the number of the signal that ended it. Its whole process group is killed when the time
    is over, when the task is cancelled, and when the command has ended but left something behind.

    Raises:
        ToolError: it cannot be started.
    """
    place = folder.resolve(args.cwd or ".")
    with folder.open_directory(place):
        pass
    if "\0" in args.command:
        raise ToolError("command: must not contain U+0000")
    argv = _argv(args)
    env = command_environment(environ) | {"PWD": place.real}
    out, err = _Output(), _Output()
    async with _Pipe(out) as stdout, _Pipe(err) as stderr:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout.writer,
                stderr=stderr.writer,
                cwd=place.real,
                env=env,
                start_new_session=True,
            )
        except FileNotFoundError:
            hint = "" if args.shell else "; set shell to true for shell syntax"
            raise ToolError(f"command: {argv[0]} was not found{hint}") from None
        except OSError as error:
            raise ToolError(f"command: {argv[0]}: {error.strerror or error}") from None
        stdout.close_writer()
        stderr.close_writer()
        timed_out = False
        try:
            await asyncio.wait_for(process.wait(), min(args.timeout, MAX_TIMEOUT))
        except TimeoutError:
            timed_out = True
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
        finally:
            if process.returncode is None or timed_out:
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
        try:
            await _both(stdout, stderr)
        finally:
            if not (stdout.ended.is_set() and stderr.ended.is_set()):
                # Somebody of the group still holds a pipe, so the number of the group is still the command's.
                _signal_group(process.pid, signal.SIGKILL)
        await _both(stdout, stderr)
    return {"exit_code": process.returncode, "stdout": out.text(), "stderr": err.text(), "timed_out": timed_out}


def _argv(args: ExecuteCommand) -> list[str]:
    if args.shell:
        return ["/bin/sh", "-c", args.command]
    try:
        argv = shlex.split(args.command)
    except ValueError as error:
        raise ToolError(f"command: cannot be split into words: {error}") from None
    if not argv:
        raise ToolError("command: is empty")
    return argv


async def _both(stdout: _Pipe, stderr: _Pipe) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(stdout.ended.wait(), stderr.ended.wait()), DRAIN)


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class _Output:
    """The beginning and the end of a stream."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = MAX_OUTPUT // 2 - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (excess := len(self._tail) - MAX_OUTPUT // 2) > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        head, tail = bytes(self._head), bytes(self._tail)
        if not self._dropped:
            return (head + tail).decode("utf-8", "replace")
        marker = f"\n… [truncated: {self._dropped} bytes left out] …\n"
        return head.decode("utf-8", "replace") + marker + tail.decode("utf-8", "replace")


class _Pipe(asyncio.Protocol):
    """One pipe of a command.

    Not ``asyncio.subprocess.PIPE``: in some Python versions ``process.wait()`` then waits for every process that
    inherited the pipe, not only for the command.
    """

    def __init__(self, output: _Output) -> None:
        self._output = output
        self.ended = asyncio.Event()
        self.writer = -1

    async def __aenter__(self) -> Self:
        reader, self.writer = os.pipe()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: self, os.fdopen(reader, "rb", buffering=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close_writer()
        self._transport.close()

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def data_received(self, data: bytes) -> None:
        self._output.add(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature of asyncio.Protocol.
        self.ended.set()
