"""Calls of MCP tools that are dressed up: names, patterns, grants and arguments that want to be taken for others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.agents import load_agents
from codelab.agent.gate import check_call
from codelab.agent.mcp.tools import MAX_NAME, ForeignTool, read_tools, tool_name
from codelab.agent.policy import Policy, Rule, exact_rule
from codelab.agent.policy.rules import BUILT_IN
from codelab.agent.tools import TOOLS
from tests.agent.hostile_calls import MCP_ARGUMENTS, MCP_NAMES, MCP_REMOTE_NAMES
from tests.agent.mcp import allow, completed
from tests.agent.providers.upstream import text_answer
from tests.agent.test_mcp import add
from tests.agent.transcripts import END, call, calls_answer, last
from tests.support.mcp import run_mcp_server, tool

if TYPE_CHECKING:
    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream

AGENTS = load_agents()
ANYTHING = Rule(tool="*", effect="allow", reason="anything")
STRICT = {
    "properties": {
        "path": {"type": "string", "maxLength": 10},
        "count": {"type": "integer", "minimum": 0, "maximum": 10},
        "mode": {"enum": ["r", "w"]},
    },
    "required": ["path"],
    "additionalProperties": False,
}
#: What fits the schema, without which the tests of what does not could not fail.
FITTING = (
    '{"path": "a"}',
    '{"path": "a", "count": 10, "mode": "w"}',
    ' {"path": "aaaaaaaaaa"} ',
    '{"path": "\\u0061"}',
)


def tools_of(server: str, *names: str) -> dict[str, ForeignTool]:
    """Read what a server lists, with the strict schema."""
    return {one.name: one for one in read_tools(server, server, [tool(name, STRICT) for name in names])}


FILES = tools_of("files", "read_file", "write_file")
#: Two at a time: a server has at most 64.
EVIL = tools_of("evil", *MCP_REMOTE_NAMES[::2]) | tools_of("evil", *MCP_REMOTE_NAMES[1::2])


def short(value: str) -> str:
    """Name a case by what it is, where that is short and can be shown."""
    return ascii(value)[1:60]


def effect(name: str, arguments: str, policy: Policy, *grants: Rule, agent: str = "coder") -> str:
    """Judge a call of an agent in a session with both servers."""
    return check_call(AGENTS[agent], name, arguments, policy, grants, foreign=FILES | EVIL).effect


def test_the_table_is_large() -> None:
    """More than two hundred different lines."""
    tables = (MCP_NAMES, MCP_REMOTE_NAMES, MCP_ARGUMENTS)

    assert all(len(set(table)) == len(table) for table in tables)
    assert sum(map(len, tables)) >= 200
    assert not set(MCP_NAMES) & (FILES.keys() | EVIL.keys() | TOOLS.keys())


@pytest.mark.parametrize("agent", AGENTS)
def test_a_listed_tool_can_be_called(agent: str) -> None:
    """Every agent has it, by its whole name: without this the next test could not fail."""
    assert effect("mcp__files__read_file", FITTING[0], Policy((ANYTHING,)), agent=agent) == "allow"
    assert effect("mcp__files__read_file", FITTING[0], Policy(), agent=agent) == "ask"


@pytest.mark.parametrize("name", MCP_NAMES, ids=short)
def test_no_other_name_is_that_of_a_tool(name: str) -> None:
    """Whatever allows everything: a tool that no server lists under exactly this name is there for no agent."""
    for agent in AGENTS:
        assert effect(name, FITTING[0], Policy((ANYTHING,)), ANYTHING, agent=agent) == "deny"


@pytest.mark.parametrize("name", MCP_REMOTE_NAMES, ids=short)
def test_a_server_cannot_choose_a_name(name: str) -> None:
    """Its tools bear its own name, in characters that every model takes, and are told apart from each other."""
    made = tool_name("evil", name)
    one_server = [r for r in MCP_REMOTE_NAMES if tool_name("evil", r) == made]

    assert re.fullmatch(r"mcp__evil__[A-Za-z0-9_-]+", made)
    assert len(made) <= MAX_NAME
    assert made in EVIL
    assert one_server == [name]
    assert EVIL[made].remote == name


@pytest.mark.parametrize("name", MCP_REMOTE_NAMES, ids=short)
def test_no_rule_about_other_tools_allows_it(name: str) -> None:
    """Rules that allow codelab's tools, by name or by pattern, or another server's, are not about this one."""
    made = tool_name("evil", name)
    patterns = (
        "*_file",
        "*file*",
        "*command",
        "*[a-z]",
        "?*",
        "*_*",
        "read_*",
        "[m]cp__*",
        "mcp__files__*",
        "mcp__e__*",
    )
    rules = [Rule(tool=one, effect="allow", reason="mine") for one in (*TOOLS, *patterns)]
    for policy in (Policy(tuple(rules)), Policy(session=tuple(rules)), Policy(built_in=(*BUILT_IN, *rules))):
        assert effect(made, FITTING[0], policy, *rules) == "ask"
    # A deny and an ask of a pattern are about it, and so is an allow that says whose tools it means.
    assert effect(made, FITTING[0], Policy((ANYTHING, Rule(tool="*__*", effect="deny", reason="none")))) == "deny"
    for pattern in ("*", "mcp__*", "mcp__evil__*"):
        assert effect(made, FITTING[0], Policy((Rule(tool=pattern, effect="allow", reason="mine"),))) == "allow"


@pytest.mark.parametrize("name", ["read_file", "write_file", "create_directory", "delete_file", "execute_command"])
def test_a_grant_for_a_tool_of_ours_is_none_for_theirs(name: str) -> None:
    """The same arguments for a tool of the same name elsewhere are asked."""
    arguments: dict[str, Any] = {"command": "ls"} if name == "execute_command" else {"path": "a"}
    granted = exact_rule(name, arguments)
    foreign = {one.name: one for one in read_tools("files", "id", [tool(name)])}

    for policy in (Policy(), Policy((granted,)), Policy(session=(granted,))):
        judged = check_call(
            AGENTS["coder"],
            f"mcp__files__{name}",
            '{"command": "ls"}' if name == "execute_command" else '{"path": "a"}',
            policy,
            (granted,),
            foreign=foreign,
        )
        assert judged.effect == "ask"


@pytest.mark.parametrize("arguments", FITTING)
def test_what_fits_is_let_through(arguments: str) -> None:
    """Without this the next test could not fail."""
    assert effect("mcp__files__read_file", arguments, Policy((ANYTHING,))) == "allow"


@pytest.mark.parametrize("arguments", MCP_ARGUMENTS, ids=short)
def test_what_does_not_fit_the_schema_goes_back(arguments: str) -> None:
    """Nobody is asked about it, whatever is allowed."""
    judged = check_call(
        AGENTS["coder"], "mcp__files__read_file", arguments, Policy((ANYTHING,)), (ANYTHING,), foreign=FILES
    )

    assert judged.effect == "deny"
    assert judged.reason.startswith("Invalid arguments for mcp__files__read_file")
    assert len(judged.reason) < 2_000


async def test_a_server_with_such_names(serve: Serve, with_model: dict[str, Any], model: Upstream) -> None:
    """As a whole: the model is told names that it can use, each leads to its own tool, and codelab's stay its own."""
    names = MCP_REMOTE_NAMES[:40]
    async with run_mcp_server() as remote:
        remote.tools = [tool(name) for name in names]
        model.play(
            calls_answer(
                *(call(tool_name("sums", name), {}, id=f"c{place}") for place, name in enumerate(names)),
                call("mcp__sums__nothing", {}, id="none"),
                call("read_file", {"path": "a"}, id="ours"),
            )
        )
        async with serve(**with_model, mcp_allowed_hosts=(remote.place,)) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            for wrong in (
                "files__read",
                "a_b",
                "Files",
                "-a",
                "a-",
                "a--b",
                "é",
                "a b",
                "a\n",
                "",
                "a-" * 12 + "a",
                "a" * 25,
            ):
                answer = await add(ada, session, remote, wrong)
                assert (answer.status_code, answer.json()["field"]) == (400, "name")
            assert (await add(ada, session, remote)).status_code == 201
            longest = await add(ada, session, remote, "a-" * 11 + "aa")
            assert longest.status_code == 201
            assert (await ada.http.delete(f"/api/v1/sessions/{session}/mcp-servers/{longest.json()['id']}")).is_success
            await allow(ada, session)
            await ada.say(session, "go")
            waiting = await ada.until(session, "turn.waiting", *END)
            model.play(text_answer("Done."))
            await ada.answer(session, "ours", result="mine")
            events = await ada.until(session, *END)

    ends = completed(events)
    assert sorted(name for name, _ in remote.calls) == sorted(names)
    assert {ends[f"c{place}"]["result"] for place in range(len(names))} == {
        f"{name} did it".replace("\x00", "\ufffd") for name in names
    }
    assert ends["none"]["status"] == "denied"
    assert [e.data["tool_name"] for e in waiting if e.type == "tool.requested"] == ["read_file"]
    assert last(events, "turn.completed")
