"""Files of MCP servers: what they may say, and what is said about those that say something else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from codelab.mcpclient import InvalidFile, StdioServer, narrow_environment, read_file, read_servers

FILE = Path("/home/anna/project/.mcp.json")


def read(**servers: Any) -> tuple[StdioServer, ...]:
    """Read a file with these servers."""
    return read_servers(json.dumps({"mcpServers": servers}).encode(), FILE)


def test_the_fields_usual_shape_is_read() -> None:
    """In the order of the file; a relative folder is one beside the file, and nothing is expanded."""
    assert read(
        git={"command": "uvx", "args": ["mcp-server-git", ""], "env": {"TOKEN": "${TOKEN}"}, "type": "stdio"},
        a1={"command": "./run", "cwd": "tools/.."},
        far={"command": "x", "cwd": "/srv"},
    ) == (
        StdioServer("git", "uvx", ("mcp-server-git", ""), {"TOKEN": "${TOKEN}"}, "/home/anna/project"),
        StdioServer("a1", "./run", (), {}, "/home/anna/project"),
        StdioServer("far", "x", (), {}, "/srv"),
    )
    assert read() == ()


LOCAL = "mcpServers.a: only servers that run as a process (stdio) can be named here"
REFUSED: tuple[tuple[Any, str], ...] = (
    ([], "the file: must be an object"),
    ({}, "mcpServers: must be an object"),
    ({"servers": {}}, 'the file: has an unknown member "servers"'),
    ({"mcpServers": {"a": []}}, "mcpServers.a: must be an object"),
    ({"mcpServers": {"a": {}}}, "mcpServers.a.command: must be a string"),
    ({"mcpServers": {"a": {"command": ""}}}, "mcpServers.a.command: must not be empty"),
    ({"mcpServers": {"a": {"command": "x\0"}}}, "mcpServers.a.command: must not contain U+0000 or a lone surrogate"),
    ({"mcpServers": {"a": {"command": ["x"]}}}, "mcpServers.a.command: must be a string"),
    ({"mcpServers": {"a": {"command": "x", "args": "y"}}}, "mcpServers.a.args: must be a list"),
    ({"mcpServers": {"a": {"command": "x", "args": ["y", 1]}}}, "mcpServers.a.args[1]: must be a string"),
    ({"mcpServers": {"a": {"command": "x", "args": ["y"] * 257}}}, "mcpServers.a.args: must have at most 256 items"),
    ({"mcpServers": {"a": {"command": "x", "env": []}}}, "mcpServers.a.env: must be an object"),
    ({"mcpServers": {"a": {"command": "x", "env": {"A": 1}}}}, "mcpServers.a.env.A: must be a string"),
    (
        {"mcpServers": {"a": {"command": "x", "env": {"A=": ""}}}},
        'mcpServers.a.env."A=": must be the name of a variable',
    ),
    ({"mcpServers": {"a": {"command": "x", "cwd": 1}}}, "mcpServers.a.cwd: must be a string"),
    ({"mcpServers": {"a": {"command": "x", "shell": True}}}, 'mcpServers.a: has an unknown member "shell"'),
    ({"mcpServers": {"a": {"url": "https://a.example"}}}, LOCAL),
    ({"mcpServers": {"a": {"command": "x", "type": "http"}}}, LOCAL),
    ({"mcpServers": {f"s{n}": {"command": "x"} for n in range(33)}}, "mcpServers: must have at most 32 servers"),
)


@pytest.mark.parametrize(("value", "said"), REFUSED)
def test_another_shape_is_refused(value: Any, said: str) -> None:
    """With the file and the member in the message, and no value of it."""
    with pytest.raises(InvalidFile) as refused:
        read_servers(json.dumps(value).encode(), FILE)
    assert str(refused.value) == f".mcp.json: {said}"


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "a__b", "-a", "a-", "a--b", "a" * 25, "a-" * 12 + "a", "a\n", "\x1b[2J", "é"]
)
def test_a_name_is_a_part_of_the_names_of_tools(name: str) -> None:
    """What would not be one is refused, and shown without what could drive a terminal."""
    with pytest.raises(InvalidFile, match=r"a server's name must have 1 to 24 characters") as refused:
        read(**{name: {"command": "x"}})
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{\n  oops", "line 2: is not JSON: Expecting property name enclosed in double quotes"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b" " * 300_000, "must have at most 262144 bytes"),
        (b'{"mcpServers": {}, "mcpServers": {}}', '"mcpServers": is there twice'),
        (b'{"mcpServers": {"a": {"command": "x", "command": "y"}}}', '"command": is there twice'),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes, said: str) -> None:
    """Also what readers of JSON take for different things."""
    with pytest.raises(InvalidFile) as refused:
        read_servers(raw, FILE)
    assert str(refused.value) == f".mcp.json: {said}"


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    """Nobody waits at a pipe; a file that is not there is another matter than one that cannot be read."""
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InvalidFile, match=r"pipe.json: is no regular file"):
        read_file(tmp_path / "pipe.json")
    with pytest.raises(InvalidFile, match="cannot be read: Is a directory"):
        read_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "absent.json")
    (tmp_path / "a.json").write_bytes(b"{}")
    assert read_file(tmp_path / "a.json") == b"{}"


def test_a_servers_environment_is_narrow() -> None:
    """It has what its file names, and little else: no secret of who starts it, and no function of a shell."""
    environ = {
        "PATH": "/bin", "HOME": "/home/anna", "LANG": "C.UTF-8", "LC_ALL": "C", "TERM": "xterm", "USER": "anna",
        "LOGNAME": "anna", "SHELL": "() { echo; }", "AUTH_SERVICE__DB_URL": "postgres://", "AWS_SECRET": "s",
        "SSH_AUTH_SOCK": "/run", "LD_PRELOAD": "x.so", "PYTHONPATH": "/x",
    }  # fmt: skip
    assert narrow_environment(environ, {"TOKEN": "t", "PATH": "/opt/bin"}) == {
        "PATH": "/opt/bin", "HOME": "/home/anna", "LANG": "C.UTF-8", "LC_ALL": "C", "TERM": "xterm", "USER": "anna",
        "LOGNAME": "anna", "TOKEN": "t",
    }  # fmt: skip
