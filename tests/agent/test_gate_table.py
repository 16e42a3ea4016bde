"""The policy against calls that are dressed up: nothing slips into an allow, nothing slips out of a deny."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.agents import load_agents
from codelab.agent.gate import check_call
from codelab.agent.policy import Policy, Rule
from codelab.agent.policy.commands import plain_argv
from tests.agent.hostile_calls import (
    DRESSED_PATHS,
    NOT_THE_COMMAND,
    PLAIN_COMMANDS,
    PLAIN_PATHS,
    RUNS_RM,
    SECRET_PATHS,
    SECRET_WORDS,
    UNSEEN_RM,
)

if TYPE_CHECKING:
    from pathlib import Path

CODER = load_agents()["coder"]
#: Tools whose paths an allow may open, with the arguments that they take besides.
WRITERS: dict[str, dict[str, Any]] = {"write_file": {"content": ""}, "create_directory": {}, "delete_file": {}}

ALLOWS = Policy(
    (
        Rule(tool="*", path="src/**", effect="allow", reason="sources"),
        *(
            Rule(tool="execute_command", command=words, effect="allow", reason="harmless")
            for words in (("git", "status"), ("npm", "test"), ("ls",))
        ),
    )
)
ANYTHING = Rule(tool="*", effect="allow", reason="anything")
SECRETS = Policy((Rule(tool="*", path="secrets/**", effect="deny", reason="secret"), ANYTHING))
NO_RM = Policy((Rule(tool="execute_command", command=("rm",), effect="deny", reason="no rm"), ANYTHING))


def effect(policy: Policy, tool: str, **arguments: Any) -> str:
    """Decide about a call of the coder."""
    return policy.decide("coder", tool, arguments).effect


def short(value: str) -> str:
    """Name a case by what it is, where that is short and can be shown."""
    return ascii(value)[1:60]


def test_the_table_is_large() -> None:
    """More than three hundred different hostile calls."""
    tables = (DRESSED_PATHS, SECRET_PATHS, SECRET_WORDS, NOT_THE_COMMAND, RUNS_RM, UNSEEN_RM)

    assert all(len(set(table)) == len(table) for table in tables)
    assert sum(map(len, tables)) >= 300


@pytest.mark.parametrize("path", PLAIN_PATHS, ids=short)
def test_a_plain_path_is_allowed(path: str) -> None:
    """The rule allows what it is for: without this the next test could not fail."""
    assert {effect(ALLOWS, tool, path=path, **more) for tool, more in WRITERS.items()} == {"allow"}
    assert effect(ALLOWS, "move_file", source=path, destination="src/new") == "allow"


@pytest.mark.parametrize("path", DRESSED_PATHS, ids=short)
def test_an_allow_takes_no_other_path(path: str) -> None:
    """Elsewhere, or written in another way than it is meant: a person is asked."""
    assert {effect(ALLOWS, tool, path=path, **more) for tool, more in WRITERS.items()} == {"ask"}
    assert effect(ALLOWS, "move_file", source="src/a", destination=path) == "ask"
    assert effect(ALLOWS, "move_file", source=path, destination="src/a") == "ask"
    assert effect(ALLOWS, "execute_command", command="ls", cwd=path) == ("allow" if path == "." else "ask")
    gate = check_call(CODER, "write_file", json.dumps({"path": path, "content": ""}), ALLOWS)
    assert gate.effect in {"ask", "deny"}


@pytest.mark.parametrize("path", SECRET_PATHS, ids=short)
def test_a_deny_takes_every_form_of_a_path(path: str) -> None:
    """For tools with one path, with two, with a folder to run in, and for tools that nobody here knows."""
    assert effect(SECRETS, "read_file", path=path) == "deny"
    assert effect(SECRETS, "write_file", path=path, content="") == "deny"
    assert effect(SECRETS, "list_files", path=path) == "deny"
    assert effect(SECRETS, "search_in_code", query="x", path=path) == "deny"
    assert effect(SECRETS, "move_file", source=path, destination="a") == "deny"
    assert effect(SECRETS, "move_file", source="a", destination=path) == "deny"
    too_long = {"ask"} if len(path) > 4096 else set()
    assert effect(SECRETS, "execute_command", command="ls", cwd=path) in {"deny"} | too_long
    assert effect(SECRETS, "mcp__files__read", request={"files": [path]}) in {"deny"} | too_long
    if "\ud800" not in path and "\x00" not in path:
        gate = check_call(CODER, "read_file", json.dumps({"path": path}), SECRETS)
        assert gate.effect == "deny"


@pytest.mark.parametrize("path", PLAIN_PATHS, ids=short)
def test_a_deny_takes_nothing_else(path: str) -> None:
    """What is not meant is not hit."""
    assert effect(SECRETS, "read_file", path=path) == "allow"


@pytest.mark.parametrize("command", SECRET_WORDS, ids=short)
@pytest.mark.parametrize("shell", [False, True])
def test_a_deny_of_a_path_reaches_the_words_of_commands(command: str, shell: bool) -> None:
    """Arguments, options, redirections, and scripts in quotes."""
    assert effect(SECRETS, "execute_command", command=command, shell=shell) == "deny"


@pytest.mark.parametrize("command", PLAIN_COMMANDS, ids=short)
def test_a_plain_command_is_allowed(command: str) -> None:
    """The rules allow what they are for."""
    assert {effect(ALLOWS, "execute_command", command=command, shell=shell) for shell in (False, True)} == {"allow"}


@pytest.mark.parametrize("command", NOT_THE_COMMAND, ids=short)
@pytest.mark.parametrize("shell", [False, True])
def test_an_allow_takes_no_other_command(command: str, shell: bool) -> None:
    """Another program, or anything that words alone cannot say."""
    assert effect(ALLOWS, "execute_command", command=command, shell=shell) == "ask"
    gate = check_call(CODER, "execute_command", json.dumps({"command": command, "shell": shell}), ALLOWS)
    assert gate.effect in {"ask", "deny"}


@pytest.mark.parametrize("command", RUNS_RM, ids=short)
@pytest.mark.parametrize("shell", [False, True])
def test_a_deny_finds_a_program(command: str, shell: bool) -> None:
    """At the beginning of every simple command, behind wrappers, in quotes, in other spellings."""
    assert effect(NO_RM, "execute_command", command=command, shell=shell) == "deny"


@pytest.mark.parametrize("command", UNSEEN_RM, ids=short)
def test_what_nobody_can_read_is_asked(command: str) -> None:
    """A program whose name is made while the script runs may be the one that is denied."""
    decision = NO_RM.decide("coder", "execute_command", {"command": command, "shell": True})

    assert decision.effect in {"ask", "deny"}
    assert any(step.note for step in decision.trace) or decision.effect == "deny"


@pytest.mark.parametrize(
    "command",
    ["git rm x", "echo rm", "ls rm", "grep -r rm src", "rmdir x", "cat rm.txt", "npm run rm-cache", "ls -la | wc -l"],
)
def test_a_deny_takes_no_other_program(command: str) -> None:
    """A word that is not a program is none."""
    assert effect(NO_RM, "execute_command", command=command) == "allow"


@pytest.mark.parametrize(
    "command",
    [
        "git push",
        "git push --force",
        "git -c a=b push",
        "git --no-pager push",
        "git -C /x push origin",
        "env git push",
        "git\npush",
        "GIT push",
        "ls; git   push",
        "git 'push'",
        "git pu''sh",
        "bash -c 'git -c x=y push'",
        "/usr/bin/git push",
    ],
)
def test_a_deny_of_several_words_is_not_passed_by_options(command: str) -> None:
    """Words between those of the prefix do not help."""
    policy = Policy((ANYTHING, Rule(tool="*", command=("git", "push"), effect="deny", reason="no push")))

    assert effect(policy, "execute_command", command=command) == "deny"
    assert effect(policy, "execute_command", command="git pull") == "allow"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("list_files", {"path": "."}),
        ("list_files", {"path": ".", "recursive": True}),
        ("list_files", {"path": "./"}),
        ("list_files", {"path": "config"}),
        ("list_files", {"path": "CONFIG"}),
        ("list_files", {"path": "src/.."}),
        ("list_files", {"path": "/home/me/project"}),
        ("list_files", {"path": ".."}),
        ("search_in_code", {"query": "x"}),
        ("search_in_code", {"query": "x", "path": None}),
        ("search_in_code", {"query": "x", "path": "."}),
        ("search_in_code", {"query": "x", "path": "config/"}),
        ("delete_file", {"path": "config"}),
        ("move_file", {"source": "config", "destination": "x"}),
        ("execute_command", {"command": "grep -r x ."}),
        ("execute_command", {"command": "tar c config"}),
        ("execute_command", {"command": "tar c config/"}),
        ("execute_command", {"command": "cat conf*/x"}),
        ("execute_command", {"command": "cat $X"}),
        ("mcp__files__tree", {"root": "config"}),
    ],
)
def test_who_walks_to_what_is_denied_is_asked(tool: str, arguments: dict[str, Any]) -> None:
    """A tool that takes in a parent of a denied folder is never simply allowed, whatever allows it later."""
    denied = Rule(tool="*", path="config/secrets/**", effect="deny", reason="secret")
    policy = Policy((denied, ANYTHING), session=(ANYTHING,))
    decision = policy.decide("coder", tool, arguments, grants=(ANYTHING,))

    assert (decision.effect, decision.reason) == ("ask", "This may come to what is denied: secret")
    assert effect(policy, "list_files", path="src") == "allow"
    assert effect(policy, "execute_command", command="pytest tests") == "allow"
    assert effect(policy, "execute_command", command="cat secrets/x") == "allow"
    assert effect(policy, "execute_command", command="cat secrets/x", cwd="config") == "deny"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("write_file", {}),
        ("write_file", {"path": None}),
        ("write_file", {"path": 5}),
        ("write_file", {"path": True}),
        ("write_file", {"path": ["src/a"]}),
        ("write_file", {"path": {"src/a": "src/a"}}),
        ("write_file", {"Path": "src/a"}),
        ("move_file", {}),
        ("move_file", {"source": "src/a", "destination": ["src/b"]}),
        ("move_file", {"source": "src/a", "destination": {"to": "src/b"}}),
        ("execute_command", {}),
        ("execute_command", {"command": None}),
        ("execute_command", {"command": ["ls"]}),
        ("execute_command", {"command": {"ls": "ls"}}),
        ("execute_command", {"command": "ls", "env": {"PATH": "evil"}}),
        ("execute_command", {"command": "ls", "cwd": ["."]}),
        ("execute_command", {"command": "ls", "cwd": "src"}),
        ("execute_command", {"command": "ls", "cwd": ""}),
        ("list_files", {"path": "src", "pattern": "../*"}),
        ("mcp__files__write", {"path": "src/a"}),
        ("Write_File", {"path": "src/a"}),
        ("write_file ", {"path": "src/a"}),
    ],
)
def test_an_allow_takes_no_other_arguments(tool: str, arguments: dict[str, Any]) -> None:
    """Wrong types, missing paths, further members, tools that nobody here knows."""
    policy = Policy(ALLOWS.operator, built_in=(Rule(tool="*", effect="ask", reason="ask"),))

    assert effect(policy, tool, **arguments) == "ask"


def test_what_is_nested_reaches_a_deny_and_ends() -> None:
    """Deep and wide arguments of a tool that nobody here knows."""
    deep: Any = "secrets/key"
    for _ in range(90):
        deep = [{"x": deep}] if _ % 2 else {"y": [deep]}
    wide = {str(number): f"a/{number}" for number in range(2_000)}

    assert effect(SECRETS, "mcp__x", deep="secrets/key", **wide) == "deny"
    assert effect(SECRETS, "mcp__x", **wide) == "allow"
    assert effect(SECRETS, "mcp__x", deep=deep) in {"allow", "ask", "deny"}


# Chance finds what no table thinks of. The seeds are fixed, so a failure can be repeated.

_DRESSINGS = (
    lambda path, chance: "".join(chance.choice((c.upper(), c.lower())) for c in path),
    lambda path, chance: path.replace("/", chance.choice(("\\", "//", "/./", "\uff0f", "\u2215", "/x/../"))),
    lambda path, chance: chance.choice(("./", "x/../", ".\\", "/", "C:", "C:\\", "\\\\?\\C:\\p\\", "../p/")) + path,
    lambda path, chance: path + chance.choice(("", "/", "/.", ".", " ", "::$DATA", "\x00", "/x/..")),
    lambda path, chance: _insert(path, chance.choice(("\u200b", "\u00ad", "\ufe0f", "\n", "\x7f")), chance),
    lambda path, chance: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and chance.random() < 0.3 else c for c in path
    ),
    lambda path, chance: path.replace("s", chance.choice(("%73", "%2573", "\u017f", "s"))),
)


def _insert(text: str, piece: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    return text[:place] + piece + text[place:]


@pytest.mark.parametrize("seed", range(20))
def test_dressed_at_random_a_path_stays_denied(seed: int) -> None:
    """One to four dressings over one another: always denied, and never allowed as a plain path."""
    chance = random.Random(seed)
    opened = Policy((Rule(tool="*", path="secrets/**", effect="allow", reason="all"),))
    for _ in range(50):
        path = "secrets/sub/key.pem"
        for dress in chance.choices(_DRESSINGS, k=chance.randint(1, 4)):
            path = dress(path, chance)
        assert effect(SECRETS, "read_file", path=path) == "deny", ascii(path)
        if path != "secrets/sub/key.pem":
            assert effect(opened, "write_file", path=path, content="") == "ask", ascii(path)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_taken_for_words_is_words_to_a_shell_too(seed: int, tmp_path: Path) -> None:
    """Random commands that are taken as plain: ``sh`` and ``shlex`` see exactly the same words."""
    chance = random.Random(seed)
    pieces = [*" \t\n'\"\\$`;&|<>(){}[]*?~#!=%^@+:,./-_aB0é", "ls", "git", " 'a b'", ' "c d"', " --x=y", " -v", " "]
    plain = [
        command
        for command in ("ls" + "".join(chance.choices(pieces, k=chance.randint(1, 8))) for _ in range(3_000))
        if plain_argv(command) is not None
    ]
    plain += ["ls" + "".join(chance.choices(pieces[-5:], k=chance.randint(1, 8))) for _ in range(50)]
    plain = [command for command in plain if plain_argv(command) is not None]
    script = "".join(f"set -- {command}\nprintf '%s\\0' \"$@\"\nprintf '\\n\\0'\n" for command in plain)
    done = subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = [tuple(part.split("\0")[:-1]) for part in done.stdout.split("\n\0")[:-1]]

    assert len(plain) > 20
    assert seen == [plain_argv(command) for command in plain] == [tuple(shlex.split(command)) for command in plain]


@pytest.mark.parametrize("seed", range(10))
def test_random_scripts_with_rm_are_denied(seed: int) -> None:
    """Simple commands joined, wrapped and quoted at random: the one with rm is found."""
    chance = random.Random(seed)
    wrap = (
        lambda s: s,
        lambda s: f"sh -c {shlex.quote(s)}",
        lambda s: f"({s})",
        lambda s: f"env A=b {s}",
        lambda s: f"sudo {s}",
        lambda s: f"echo $({s})",
        lambda s: f"true && {s} || false",
        lambda s: f"ls\n{s}",
        lambda s: f"eval {shlex.quote(s)}",
        lambda s: f"{{ {s}; }}",
    )
    for _ in range(50):
        script = chance.choice(("rm x", "r''m x", "/bin/rm -rf x", "\\rm x", "'rm' x"))
        for step in chance.choices(wrap, k=chance.randint(0, 3)):
            script = step(script)
        assert effect(NO_RM, "execute_command", command=script) == "deny", script


def test_the_hostile_commands_do_run_rm(tmp_path: Path) -> None:
    """Cases of the table, run by a real shell with a program named rm: they are what they say."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "rm"
    program.write_text(f"#!/bin/sh\n: >{shlex.quote(str(tmp_path / 'ran'))}\n", encoding="utf-8")
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    ran = []
    for command in (*RUNS_RM, *UNSEEN_RM[:6]):
        if any(word in command for word in ("/bin", "./", "ssh", "docker", "while", "watch", "sudo", "su ", "python")):
            continue
        (tmp_path / "ran").unlink(missing_ok=True)
        subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        ran.append(os.path.lexists(tmp_path / "ran"))

    assert sum(ran) >= 45
