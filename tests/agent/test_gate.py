"""The gate against hostile calls: nothing that must be denied is allowed, and nothing makes it fall over."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from codelab.agent.agents import load_agents
from codelab.agent.gate import check_call, check_edit, digest
from codelab.agent.tools import TOOLS, InvalidArguments
from codelab.text import canonical_json

AGENTS = load_agents()

#: Paths that do not name a Markdown file, or would not on some system; with what an attacker hopes for.
NO_MARKDOWN = [
    "evil.py",
    "EVIL.PY",
    "notes.md.py",
    "notes.md/../evil.py",
    "notes.md/..\\evil.py",
    "notes.md\\..\\evil.py",
    "a/b/../../x.md/./../evil.sh",
    "./notes.md/../../evil",
    "/etc/passwd",
    "C:\\Windows\\system.ini",
    "\\\\host\\share\\evil.exe",
    "notes.md.",
    "notes.md ",
    "notes.md\t",
    "notes.md\n",
    "notes.md\r\n",
    "evil.py\n.md",
    "notes.md\u2028",
    "notes.md\u200b",
    "notes\uff0emd",  # a full-width full stop
    "notes.\u217fd",  # a Roman numeral that looks like an m
    "notes.m\u0501",  # a Cyrillic letter that looks like a d
    "\u202edm.evil",  # shown from right to left
    "notes.md\x00.py",
    "notesmd",
    ".",
    "..",
    "/",
    "md",
    "%6d%64",
    "notes.md?x=.py",
    "notes.md#.py",
    "notes.md::$DATA",
    "$(touch x).sh",
]
#: What is Markdown however it is written: it is asked for, never simply allowed.
MARKDOWN = [
    "notes.md",
    "NOTES.MD",
    "docs/a.b.Md",
    "./x/../notes.md",
    "a\\b.md",
    "x.md/",
    "évil.md",
    ".md",
    "evil.py/../x.md",
]

TOO_MUCH: list[str] = [
    "[" * 100_000,
    '{"path":' * 5_000,
    *('{"path": ' + "[" * depth + "]" * depth + "}" for depth in (99, 150, 350, 450, 900, 20_000)),
    *('{"path": ' + '{"a":' * depth + "1" + "}" * (depth + 1) for depth in (99, 350, 450, 5_000)),
    json.dumps({"path": ["x y " * 250_000]}),
    json.dumps({"x" * 1_000_000: 1}),
    json.dumps({str(number): number for number in range(20_000)}),
    '{"path": "a", "start_line": 1' + "0" * 5_000 + "}",
    '{"path": "a", "start_line": 1e999}',
    '{"path": "a", "start_line": -1e999}',
    '{"path": "a", "start_line": NaN}',
]

BROKEN = [
    "{",
    "}",
    "null",
    "[]",
    '"path"',
    "5",
    "{'path': 'a'}",
    '{"path": "a"} {"path": "b"}',
    "\x00",
    "\ufeff{}",
    "{,}",
]

#: Arguments that do not fit a tool that the coder has.
UNFIT: list[tuple[str, Any]] = [
    ("read_file", {}),
    ("read_file", {"path": ""}),
    ("read_file", {"path": None}),
    ("read_file", {"path": ["a"]}),
    ("read_file", {"path": {"toString": "a"}}),
    ("read_file", {"path": "a", "Path": "b"}),
    ("read_file", {"path": "a", "approved": True}),
    ("read_file", {"path": "a", "__class__": "x"}),
    ("read_file", {"path": "a", "start_line": 0}),
    ("read_file", {"path": "a", "start_line": "1"}),
    ("read_file", {"path": "a", "start_line": True}),
    ("read_file", {"path": "a", "start_line": 1.5}),
    ("write_file", {"path": "a"}),
    ("write_file", {"path": "a", "content": None}),
    ("write_file", {"path": "a", "content": b"x".hex(), "backup": "no"}),
    ("execute_command", {"command": ["rm", "-rf", "/"]}),
    ("execute_command", {"command": "ls", "timeout": 301}),
    ("execute_command", {"command": "ls", "timeout": 10**30}),
    ("execute_command", {"command": "ls", "shell": 1}),
    ("execute_command", {"command": "ls", "env": {"PATH": "/evil"}}),
    ("search_in_code", {"query": "x", "max_results": 10**9}),
    ("apply_diff", {"path": "a"}),
    ("apply_diff", {"path": "a", "diff": ""}),
    ("apply_diff", {"path": "a", "diff": ["@@"]}),
    ("apply_diff", {"path": "a", "diff": "@@", "fuzz": 3}),
    ("delete_file", {"path": "a", "recursive": True}),
    ("delete_file", {"path": ["a", "b"]}),
    ("move_file", {"source": "a"}),
    ("move_file", {"source": "a", "destination": ""}),
    ("move_file", {"source": "a", "destination": "b", "overwrite": True}),
    ("move_file", {"path": "a", "destination": "b"}),
    ("ask_followup_question", {"question": ""}),
    ("ask_followup_question", {"question": "q" * 4001}),
    ("ask_followup_question", {"question": "q", "options": ["x"] * 11}),
    ("ask_followup_question", {"question": "q", "answer": "yes"}),
    ("attempt_completion", {}),
    ("attempt_completion", {"result": "done", "approved": True}),
    ("attempt_completion", {"result": {"text": "done"}}),
    ("update_plan", {"items": "all"}),
    ("update_plan", {"items": [{"text": "a", "status": "approved"}]}),
    ("update_plan", {"items": [{"text": "a" * 501, "status": "pending"}]}),
    ("update_plan", {"items": [{"text": "a", "status": "pending"}] * 51}),
    ("switch_mode", {"mode": "Coder"}),
    ("switch_mode", {"mode": "root"}),
    ("switch_mode", {"mode": ["coder"]}),
]

NO_TOOLS = [
    "",
    " ",
    "Read_File",
    "read_file ",
    "read_file\x00",
    "readfile",
    "*",
    "../read_file",
    "read_file;rm",
    "__import__",
]


@pytest.mark.parametrize("path", NO_MARKDOWN)
def test_the_architect_writes_nothing_but_markdown(path: str) -> None:
    """However the path is dressed up, also when a person edits the call."""
    arguments = {"path": path, "content": ""}

    assert check_call(AGENTS["architect"], "write_file", json.dumps(arguments)).effect == "deny"
    assert check_edit(AGENTS["architect"], "write_file", arguments).effect == "deny"
    assert check_call(AGENTS["coder"], "write_file", json.dumps(arguments)).effect == "ask"


@pytest.mark.parametrize("path", NO_MARKDOWN)
def test_the_architect_changes_nothing_but_markdown(path: str) -> None:
    """With no tool: not by a diff, not by deleting, not by moving it, nor by moving something there."""
    tries: list[tuple[str, dict[str, str]]] = [
        ("apply_diff", {"path": path, "diff": "@@"}),
        ("delete_file", {"path": path}),
        ("move_file", {"source": path, "destination": "a.md"}),
        ("move_file", {"source": "a.md", "destination": path}),
    ]
    for tool, arguments in tries:
        assert check_call(AGENTS["architect"], tool, json.dumps(arguments)).effect == "deny"
        assert check_edit(AGENTS["architect"], tool, arguments).effect == "deny"
        assert check_call(AGENTS["coder"], tool, json.dumps(arguments)).effect == "ask"


@pytest.mark.parametrize("path", MARKDOWN)
def test_the_architect_may_ask_to_write_markdown(path: str) -> None:
    """The rule does not stand in the way of what it is for."""
    verdict = check_call(AGENTS["architect"], "write_file", json.dumps({"path": path, "content": ""}))

    assert (verdict.effect, verdict.arguments["path"]) == ("ask", path)


@pytest.mark.parametrize("arguments", TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_too_much_is_denied_and_can_be_kept(arguments: str) -> None:
    """Huge, endless and bottomless arguments end in a verdict whose arguments and reason can be written."""
    for agent in AGENTS.values():
        for tool in ("write_file", "execute_command", "switch_mode", "nothing"):
            verdict = check_call(agent, tool, arguments)
            assert verdict.effect == "deny"
            assert len(verdict.reason) < 1000
            assert msgspec.json.decode(canonical_json(verdict.arguments)) is not None
    numbers = check_call(AGENTS["ask"], "read_file", arguments)
    assert numbers.effect == "deny"


@pytest.mark.parametrize("arguments", BROKEN)
def test_what_is_no_json_object_is_denied(arguments: str) -> None:
    """Of all tools and agents."""
    for agent in AGENTS.values():
        for tool in TOOLS:
            verdict = check_call(agent, tool, arguments)
            assert (verdict.effect, verdict.arguments) == ("deny", {})


@pytest.mark.parametrize(("tool", "arguments"), UNFIT)
def test_what_does_not_fit_the_schema_is_denied(tool: str, arguments: dict[str, Any]) -> None:
    """Wrong types, missing and extra members: as a call, and as a person's edit."""
    assert check_call(AGENTS["coder"], tool, json.dumps(arguments)).effect == "deny"
    with pytest.raises(InvalidArguments):
        check_edit(AGENTS["coder"], tool, arguments)


@pytest.mark.parametrize("tool", NO_TOOLS)
def test_what_is_no_tool_is_denied(tool: str) -> None:
    """Names are compared exactly."""
    for agent in AGENTS.values():
        assert check_call(agent, tool, '{"path": "a"}').effect == "deny"


def test_each_agent_has_its_tools_and_no_others() -> None:
    """Over all agents and tools: deny without the tool, allow for reading and hand-overs, ask for everything else."""
    fits: dict[str, dict[str, Any]] = {
        "read_file": {"path": "a.md"},
        "write_file": {"path": "a.md", "content": ""},
        "list_files": {"path": "."},
        "create_directory": {"path": "a"},
        "execute_command": {"command": "ls"},
        "search_in_code": {"query": "x"},
        "switch_mode": {"mode": "coder"},
        "apply_diff": {"path": "a.md", "diff": "@@ -1 +1 @@\n-a\n+b"},
        "delete_file": {"path": "a.md"},
        "move_file": {"source": "a.md", "destination": "b.md"},
        "ask_followup_question": {"question": "which?"},
        "attempt_completion": {"result": "done"},
        "update_plan": {"items": [{"text": "look", "status": "pending"}]},
    }
    assert set(fits) == set(TOOLS)
    seen: dict[str, set[str]] = {"allow": set(), "ask": set(), "deny": set()}
    for agent in AGENTS.values():
        for tool, arguments in fits.items():
            effect = check_call(agent, tool, json.dumps(arguments)).effect
            assert (effect == "deny") == (tool not in agent.tools)
            seen[effect].add(tool)

    assert seen["allow"] == {
        "read_file",
        "list_files",
        "search_in_code",
        "switch_mode",
        "ask_followup_question",
        "attempt_completion",
        "update_plan",
    }
    changes = {"write_file", "apply_diff", "delete_file", "move_file"}
    assert seen["ask"] == {"create_directory", "execute_command"} | changes


def test_a_digest_binds_exactly_one_call() -> None:
    """Any other session, agent, tool or argument has another digest; the order of members has not."""
    base = digest("s", "coder", "write_file", {"path": "a", "content": "b"})
    others = {
        digest("t", "coder", "write_file", {"path": "a", "content": "b"}),
        digest("s", "ask", "write_file", {"path": "a", "content": "b"}),
        digest("s", "coder", "read_file", {"path": "a", "content": "b"}),
        digest("s", "coder", "write_file", {"path": "a", "content": "B"}),
        digest("s", "coder", "write_file", {"path": "a", "content": "b", "backup": False}),
    }

    assert digest("s", "coder", "write_file", {"content": "b", "path": "a"}) == base
    assert base not in others
    assert len(others) == 5
