"""Reading a file of MCP servers: ``{"mcpServers": {"name": {"command", "args"?, "env"?, "cwd"?}}}``.

It is the shape that editors and other agents use. Nothing in it is expanded: ``${NAME}`` and ``~`` are what they are.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ("InvalidFile", "StdioServer", "read_file", "read_servers")

#: Bytes of a file, servers in it, arguments of one and variables of one.
MAX_FILE, MAX_SERVERS, MAX_ARGS, MAX_VARIABLES = 256 * 1024, 32, 256, 128
#: As the names of servers that people add over HTTP: they are part of the names of tools.
_SERVER = re.compile(r"(?=.{1,24}\Z)[a-z0-9](?:-?[a-z0-9])*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_MEMBERS = frozenset({"type", "command", "args", "env", "cwd"})


class InvalidFile(ValueError):
    """Say in one line what is wrong with a file: its name, the member, what it must be; never a value."""


class StdioServer(msgspec.Struct, frozen=True):
    """A server as a file names it; ``cwd`` is absolute, by default the folder of the file."""

    name: str
    command: str
    args: tuple[str, ...]
    env: dict[str, str]
    cwd: str


def read_file(path: Path) -> bytes:
    """Read a file of servers.

    Raises:
        InvalidFile: it cannot be read, is too large, or is no regular file.
        FileNotFoundError: it is not there.
    """
    try:
        # Not to wait for ever at a pipe that somebody put there.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidFile(f"{path.name}: is no regular file")
            return file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidFile(f"{path.name}: cannot be read: {error.strerror}") from None


def read_servers(raw: bytes, path: Path) -> tuple[StdioServer, ...]:
    """Check the content of a file and return its servers in their order; ``path`` is absolute.

    Raises:
        InvalidFile: it is not of that shape.
    """
    if len(raw) > MAX_FILE:
        raise InvalidFile(f"{path.name}: must have at most {MAX_FILE} bytes")
    check = _Check(path.name)
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=check.unite)
    except InvalidFile:
        raise
    except json.JSONDecodeError as error:
        raise InvalidFile(f"{path.name}: line {error.lineno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise InvalidFile(f"{path.name}: is not JSON") from None
    members = check.members(check.object(value, "the file"), "the file", {"mcpServers"})
    servers = check.object(members.get("mcpServers"), "mcpServers")
    check.that(len(servers) <= MAX_SERVERS, "mcpServers", f"must have at most {MAX_SERVERS} servers")
    return tuple(_read_server(check, name, value, path) for name, value in servers.items())


def _read_server(check: _Check, name: str, value: Any, path: Path) -> StdioServer:
    rule = "a server's name must have 1 to 24 characters of a-z, 0-9 and single hyphens between them"
    check.that(_SERVER.fullmatch(name) is not None, f"mcpServers.{_shown(name)}", rule)
    at = f"mcpServers.{name}"
    found = check.object(value, at)
    local = "only servers that run as a process (stdio) can be named here"
    check.that("url" not in found and found.get("type", "stdio") == "stdio", at, local)
    check.members(found, at, _MEMBERS)
    args = check.list(found.get("args", []), f"{at}.args")
    variables = check.object(found.get("env", {}), f"{at}.env")
    check.that(len(variables) <= MAX_VARIABLES, f"{at}.env", f"must have at most {MAX_VARIABLES} members")
    for variable in variables:
        names = "must be the name of a variable"
        check.that(_VARIABLE.fullmatch(variable) is not None, f"{at}.env.{_shown(variable)}", names)
    cwd = check.text(found.get("cwd", "."), f"{at}.cwd", filled=True)
    return StdioServer(
        name=name,
        command=check.text(found.get("command"), f"{at}.command", filled=True),
        args=tuple(check.text(arg, f"{at}.args[{index}]") for index, arg in enumerate(args)),
        env={key: check.text(value, f"{at}.env.{key}") for key, value in variables.items()},
        cwd=os.path.normpath(path.parent / cwd),
    )


class _Check:
    """Checks that name the file and the member."""

    def __init__(self, file: str) -> None:
        self._file = file

    def that(self, holds: bool, at: str, rule: str) -> None:  # noqa: FBT001 - it reads like an assertion.
        if not holds:
            raise InvalidFile(f"{self._file}: {at}: {rule}")

    def unite(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):  # another reader may take the other one
            names: Callable[[str], int] = [name for name, _ in pairs].count
            twice = next(name for name in value if names(name) > 1)
            raise InvalidFile(f"{self._file}: {_shown(twice)}: is there twice")
        return value

    def object(self, value: Any, at: str) -> dict[str, Any]:
        self.that(isinstance(value, dict), at, "must be an object")
        assert isinstance(value, dict)
        return value

    def list(self, value: Any, at: str) -> list[Any]:
        self.that(isinstance(value, list), at, "must be a list")
        assert isinstance(value, list)
        self.that(len(value) <= MAX_ARGS, at, f"must have at most {MAX_ARGS} items")
        return value

    def members(self, value: dict[str, Any], at: str, known: frozenset[str] | set[str]) -> dict[str, Any]:
        for name in value:
            self.that(name in known, at, f"has an unknown member {_shown(name)}")
        return value

    def text(self, value: Any, at: str, *, filled: bool = False) -> str:
        self.that(isinstance(value, str), at, "must be a string")
        assert isinstance(value, str)
        self.that(bool(value) or not filled, at, "must not be empty")
        self.that(not _UNUSABLE.search(value), at, "must not contain U+0000 or a lone surrogate")
        return value


def _shown(name: str) -> str:
    """Write a name that may be anything as JSON, which has no control characters, and not more than a part of it."""
    return json.dumps(name[:64])
