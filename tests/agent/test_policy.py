"""The policy's layers and its file, and what of them a server and its clients see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.agents import load_agents
from codelab.agent.policies import explain_call, read_policy
from codelab.agent.policy import BUILT_IN, Policy, Rule
from codelab.agent.tools import TOOLS
from codelab.errors import BadRequest, StartError
from codelab.settings import Settings
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import call, calls_answer, last

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Running

AGENTS = load_agents()
WRITE = {"path": "src/a.py", "content": ""}


def rule(effect: Any, tool: str = "write_file", **members: Any) -> Rule:
    """Make a rule whose reason is its effect."""
    return Rule(tool=tool, effect=effect, reason=f"the rule says {effect}", **members)


class TestLayers:
    @pytest.mark.parametrize(
        ("operator", "session", "grants", "expected"),
        [
            ([], [], [], "ask"),
            (["allow"], [], [], "allow"),
            (["allow", "ask"], [], [], "ask"),
            (["ask", "allow"], [], [], "allow"),
            (["allow"], ["ask"], [], "ask"),
            (["ask"], ["allow"], [], "allow"),
            (["ask"], ["ask"], ["allow"], "allow"),
            ([], ["deny"], [], "deny"),
            ([], ["deny"], ["allow"], "allow"),
            (["deny"], [], [], "deny"),
            (["deny", "allow"], [], [], "deny"),
            (["allow", "deny"], [], [], "deny"),
            (["deny"], ["allow"], ["allow"], "deny"),
            (["deny", "ask"], ["ask"], ["ask"], "deny"),
            (["deny"], ["deny"], ["allow"], "deny"),
        ],
    )
    def test_the_last_match_wins_and_what_the_operator_denies_stays_denied(
        self, operator: list[str], session: list[str], grants: list[str], expected: str
    ) -> None:
        """Whatever comes after a deny of the operator, in its own layer too."""
        policy = Policy(tuple(map(rule, operator)), session=tuple(map(rule, session)))
        decision = policy.decide("coder", "write_file", WRITE, grants=map(rule, grants))

        assert decision.effect == expected
        assert [step.layer for step in decision.trace] == [
            *["built-in"] * 2,
            *["operator"] * len(operator),
            *["session"] * len(session),
            *["grants"] * len(grants),
        ]
        decided = [step for step in decision.trace if step.decided]
        assert [(step.effect, step.matched, step.rule.reason) for step in decided] == [
            (expected, True, decision.reason)
        ]

    def test_a_doubt_raises_and_never_lowers(self) -> None:
        """What may be denied is asked; where it is denied for certain by another rule, it stays denied."""
        doubtful = rule("deny", "*", path="secrets/**")
        search = {"query": "x"}

        def effect(*rules: Rule, session: tuple[Rule, ...] = ()) -> str:
            return Policy(rules, session=tuple(session)).decide("coder", "search_in_code", search).effect

        assert effect(doubtful) == effect(doubtful, session=(rule("allow", "*"),)) == "ask"
        assert effect(rule("deny", "*"), doubtful) == "deny"
        assert effect(session=(rule("deny", "*"), doubtful)) == "deny"
        assert effect(session=(doubtful, rule("allow", "*"))) == "allow"

    def test_rules_of_other_agents_and_tools_are_not_in_the_trace(self) -> None:
        """The trace shows what one has to read."""
        policy = Policy((rule("deny", agent="architect"), rule("deny", "read_file"), rule("allow", "write_*")))
        decision = policy.decide("coder", "write_file", WRITE)

        assert [step.rule.tool for step in decision.trace] == ["*", "write_file", "write_*"]
        assert decision.effect == "allow"

    def test_exact_is_the_whole_command_and_the_path_as_it_stands(self) -> None:
        """A grant never widens: no further word, no other folder, no glob."""
        exact = rule("allow", "execute_command", command=("rm", "-f", "x"), path=".", exact=True)
        odd = rule("allow", path="src/[a].py", exact=True)

        def effect(tool: str, **arguments: Any) -> str:
            return Policy().decide("coder", tool, arguments, grants=(exact, odd)).effect

        assert effect("execute_command", command="rm -f x") == "allow"
        assert effect("write_file", path="src/[a].py", content="") == "allow"
        for command in ("rm -f x y", "rm -f", "rm -f y", "rm -f x;", "rm -f x/../y", "rm  -f X"):
            assert effect("execute_command", command=command) == "ask"
        assert effect("execute_command", command="rm -f x", cwd="src") == "ask"
        for path in ("src/a.py", "src/[a].py/", "./src/[a].py", "src/[A].py"):
            assert effect("write_file", path=path, content="") == "ask"

    def test_a_command_may_be_allowed_in_some_folders(self) -> None:
        """Without a path only in the project folder, with one only there."""
        policy = Policy((rule("allow", "execute_command", command=("npm", "test"), path="packages/*"),))

        def effect(**arguments: Any) -> str:
            return policy.decide("coder", "execute_command", {"command": "npm test", **arguments}).effect

        assert effect(cwd="packages/a") == "allow"
        assert {effect(), effect(cwd="packages"), effect(cwd="packages/a/b"), effect(cwd="packages/../x")} == {"ask"}

    def test_what_looks_below_its_path_needs_a_rule_that_covers_it_all(self) -> None:
        """``docs/*`` allows no search through the folders of docs; ``docs/**`` does."""
        denied = rule("ask", "*")

        def effect(pattern: str, tool: str, **arguments: Any) -> str:
            return Policy((denied, rule("allow", "*", path=pattern))).decide("coder", tool, arguments).effect

        assert effect("docs/*", "search_in_code", query="x", path="docs/a") == "ask"
        assert effect("docs/*", "list_files", path="docs/a", recursive=True) == "ask"
        assert effect("docs/*", "list_files", path="docs/a") == "allow"
        assert effect("docs/**", "search_in_code", query="x", path="docs/a") == "allow"
        assert effect("docs/**", "search_in_code", query="x", path="docs") == "allow"
        assert effect("docs/**", "search_in_code", query="x") == "ask"
        assert effect("**", "search_in_code", query="x") == "allow"
        assert effect("docs/**", "delete_file", path="docs") == "ask"

    def test_the_built_in_rules_are_those_of_the_reference(self) -> None:
        """Reads are allowed, changes and commands are asked; ask and debug never change files."""

        def effect(agent: str, tool: str) -> str:
            return Policy().decide(agent, tool, {"path": "a", "command": "ls"}).effect

        reads = ("read_file", "list_files", "search_in_code", "switch_mode")
        changes = ("write_file", "apply_diff", "create_directory", "delete_file", "move_file")
        assert {effect("coder", tool) for tool in reads} == {"allow"}
        assert {effect("coder", tool) for tool in (*changes, "execute_command", "mcp__x", "new_tool")} == {"ask"}
        assert {effect(agent, tool) for agent in ("ask", "debug") for tool in changes} == {"deny"}
        assert (effect("ask", "execute_command"), effect("debug", "execute_command")) == ("deny", "ask")
        assert all(rule.reason for rule in BUILT_IN)


POLICY = """\
# What our agents may do.
rules:
  - {tool: write_file, path: "src/**", effect: allow, reason: Sources are under version control}
  - tool: execute_command
    command: git status
    effect: allow
  - tool: execute_command
    command: [git, push]
    effect: deny
    reason: Pushing is for people
  - {tool: "*", agent: ask, path: "**/.env*", effect: deny}
  - {tool: mcp__files__*, effect: deny}
  - {tool: execute_command, command: "rm -f x", path: ".", exact: true, effect: allow}
"""

BROKEN: list[tuple[str, int, str]] = [
    ("rules: 5", 1, "a list of rules"),
    ("[]", 1, "names with values are expected"),
    ("rule: []", 1, "'rule' is not known here; known are rules"),
    ("rules:\n  - 5", 2, "names with values are expected"),
    ("rules:\n  - {effect: ask}", 2, "tool: is missing"),
    ("rules:\n  - {tool: read_file}", 2, "effect: is missing"),
    ("rules:\n  - tool: read_file\n    effect: permit", 3, "effect: must be allow, ask or deny, not 'permit'"),
    ("rules:\n  - tool: writ_file\n    effect: ask", 2, "tool: there is no writ_file; known are"),
    ("rules:\n  - tool: read_file\n    agent: codr\n    effect: ask", 3, "agent: there is no codr; known are"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    paths: x", 4, "'paths' is not known here"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    effect: deny", 4, "effect: stands here twice"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: **/x", 4, "a value that begins with * needs quotes"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: ../x", 4, "path: is written with /"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: ./x", 4, "path: is written with /"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: a\\b", 4, "path: is written with /"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: a//b", 4, "path: has an empty part"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: a/", 4, "path: has an empty part"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: [a]", 4, "path: a text is expected"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: ~", 4, "path: a text is expected"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    path: s\uff45c", 4, "path: has characters"),
    ("rules:\n  - tool: read_file\n    effect: allow\n    path: /etc/**", 4, "only paths inside the project"),
    ("rules:\n  - tool: switch_mode\n    effect: deny\n    path: a", 4, "path: switch_mode has none"),
    ("rules:\n  - tool: execute_command\n    effect: allow\n    path: a", 4, "path: allows no command"),
    ("rules:\n  - tool: read_file\n    effect: ask\n    command: ls", 4, "command: is for the tool execute_command"),
    ("rules:\n  - tool: execute_command\n    effect: ask\n    command: ls; rm", 4, "command: plain words"),
    ("rules:\n  - tool: execute_command\n    effect: ask\n    command: ls *", 4, "command: plain words"),
    ("rules:\n  - tool: execute_command\n    effect: ask\n    command: []", 4, "command: plain words"),
    ("rules:\n  - tool: execute_command\n    effect: ask\n    command: [ls, $x]", 4, "command: plain words"),
    (
        "rules:\n  - tool: execute_command\n    effect: ask\n    command: ls\n    exact: true",
        5,
        "exact: is for an allow",
    ),
    ("rules:\n  - tool: read_file\n    effect: allow\n    exact: true", 4, "exact: is for an allow"),
    ("rules:\n  - tool: read_file\n    path: a\n    effect: allow\n    exact: yes please", 5, "exact: true or false"),
    ("rules:\n  - {tool: read_file, effect: ask", 2, "expected"),
    ("rules:\n\t- x", 2, "found character"),
]


class TestFile:
    def test_rules_are_read_with_their_lines(self, tmp_path: Path) -> None:
        """Every form of a rule; the source is the file and the line where it begins."""
        file = tmp_path / "policy.yaml"
        file.write_text(POLICY, encoding="utf-8")
        rules = read_policy(file, AGENTS).operator

        assert [(r.source, r.effect) for r in rules] == [
            ("policy.yaml:3", "allow"),
            ("policy.yaml:4", "allow"),
            ("policy.yaml:7", "deny"),
            ("policy.yaml:11", "deny"),
            ("policy.yaml:12", "deny"),
            ("policy.yaml:13", "allow"),
        ]
        assert [r.command for r in rules] == [None, ("git", "status"), ("git", "push"), None, None, ("rm", "-f", "x")]
        assert [r.reason for r in rules][:3] == [
            "Sources are under version control",
            "The operator's policy allows this",
            "Pushing is for people",
        ]
        assert (rules[3].agent, rules[3].path, rules[5].exact) == ("ask", "**/.env*", True)

    @pytest.mark.parametrize(("text", "line", "problem"), BROKEN, ids=range(len(BROKEN)))
    def test_what_is_wrong_is_told_with_file_and_line(self, text: str, line: int, problem: str, tmp_path: Path) -> None:
        """One sentence that names the variable, the file, the line and the member."""
        file = tmp_path / "policy.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(StartError) as refused:
            read_policy(file, AGENTS)
        told = str(refused.value)

        assert told.startswith(f"AGENT_RUNTIME__POLICY_FILE: {file}, line {line}: ")
        assert problem in told
        assert "\n" not in told

    def test_files_that_are_no_policies(self, tmp_path: Path) -> None:
        """Absent, a folder, not UTF-8, too large, bottomless: refused; an empty one has no rules."""
        file = tmp_path / "policy.yaml"
        for path in (file, tmp_path):
            with pytest.raises(StartError, match="cannot be read"):
                read_policy(path, AGENTS)
        for raw in (b"\xff\xfe", b"#" * (1024 * 1024 + 1), b"[" * 20_000):
            file.write_bytes(raw)
            with pytest.raises(StartError) as refused:
                read_policy(file, AGENTS)
            assert str(refused.value).startswith(f"AGENT_RUNTIME__POLICY_FILE: {file}")
        for raw in (b"", b"# nothing\n", b"rules: []\n"):
            file.write_bytes(raw)
            assert read_policy(file, AGENTS) == Policy()

    def test_every_rule_that_is_read_can_match(self, tmp_path: Path) -> None:
        """The file above, as the gate understands it."""
        file = tmp_path / "policy.yaml"
        file.write_text(POLICY, encoding="utf-8")
        policy = read_policy(file, AGENTS)

        def effect(tool: str, agent: str = "coder", **arguments: Any) -> str:
            return explain_call(policy, AGENTS, agent, tool, arguments).effect

        assert effect("write_file", **WRITE) == "allow"
        assert effect("write_file", path="docs/a.md", content="") == "ask"
        assert effect("execute_command", command="git status -s") == "allow"
        assert effect("execute_command", command="git push") == "deny"
        assert effect("execute_command", command="rm -f x") == "allow"
        assert effect("execute_command", command="rm -f y") == "ask"
        assert effect("read_file", "ask", path="a/.env.local") == "deny"
        assert effect("read_file", "coder", path="a/.env.local") == "allow"


class TestExplaining:
    def test_what_comes_before_the_policy_is_explained_too(self) -> None:
        """A tool that the agent does not have, arguments that do not fit, and the agent's own path rules."""
        anything = Policy((rule("allow", "*"),))

        def told(agent: str, tool: str, arguments: dict[str, Any]) -> tuple[str, str, str]:
            found = explain_call(anything, AGENTS, agent, tool, arguments)
            (step,) = found.trace
            return found.effect, step.layer, found.reason

        assert told("ask", "write_file", WRITE) == ("deny", "agent", "The agent ask does not have the tool write_file.")
        assert told("coder", "no_tool", {})[:2] == ("deny", "agent")
        assert told("coder", "read_file", {})[:2] == ("deny", "schema")
        assert told("architect", "write_file", WRITE)[:2] == ("deny", "agent")
        assert explain_call(anything, AGENTS, "architect", "write_file", WRITE | {"path": "a.md"}).effect == "allow"
        with pytest.raises(BadRequest, match="agent: must be one of orchestrator, coder"):
            explain_call(anything, AGENTS, "nobody", "read_file", {})

    def test_no_policy_gives_an_agent_a_tool(self) -> None:
        """Over all agents and tools: what is not in the agent's list is denied, whatever is allowed."""
        anything = Policy((rule("allow", "*"),))
        for agent in AGENTS.values():
            for tool in TOOLS:
                found = explain_call(anything, AGENTS, agent.name, tool, {"path": "a.py", "content": ""})
                assert tool in agent.tools or found.effect == "deny"

    async def test_the_route_tells_the_same(self, serve: Serve, tmp_path: Path) -> None:
        """The operator's file of a running server, with every step; for who may only read, too."""
        file = tmp_path / "policy.yaml"
        file.write_text(POLICY, encoding="utf-8")
        async with serve(policy_file=file) as running:
            ada = await running.person()
            body = {"agent": "coder", "tool": "execute_command", "arguments": {"command": "git -c a=b push"}}
            answer = await ada.http.post("/api/v1/policy/explain", json=body)
            wrong = await ada.http.post("/api/v1/policy/explain", json=body | {"agent": "nobody"})
            found = answer.json()

        assert answer.status_code == 200
        assert (found["effect"], found["reason"]) == ("deny", "Pushing is for people")
        assert [(s["layer"], s["effect"], s["matched"], s["decided"]) for s in found["trace"]] == [
            ("built-in", "ask", True, False),
            ("built-in", "ask", True, False),
            ("operator", "allow", False, False),
            ("operator", "deny", True, True),
            ("operator", "allow", False, False),
        ]
        assert found["trace"][3]["rule"] == {
            "tool": "execute_command",
            "agent": "*",
            "path": None,
            "command": ["git", "push"],
            "exact": False,
            "effect": "deny",
            "reason": "Pushing is for people",
            "source": "policy.yaml:7",
            "arguments": None,
        }
        assert (wrong.status_code, wrong.json()["field"]) == (400, "agent")


class TestServer:
    async def test_calls_and_edits_obey_the_file(
        self, model: Upstream, with_model: dict[str, Any], start: Callable[..., Awaitable[Running]], tmp_path: Path
    ) -> None:
        """Allowed without a question, denied with the operator's words, and an edit into what is denied is refused."""
        file = tmp_path / "policy.yaml"
        file.write_text(
            POLICY + '  - {tool: "*", path: "secrets/**", effect: deny, reason: No secrets}\n', encoding="utf-8"
        )
        ada = await (await start(**with_model, policy_file=file)).person()
        session = await ada.session(agent="coder")
        model.play(
            calls_answer(
                call("write_file", WRITE, id="free"),
                call("write_file", {"path": "SECRETS\\x", "content": ""}, id="denied"),
                call("execute_command", {"command": "ls; git push"}, id="pushed"),
                call("write_file", {"path": "docs/a", "content": ""}, id="asked"),
            )
        )
        model.play(text_answer("Done."))
        await ada.say(session, "go")
        events = await ada.until(session, "turn.waiting")
        requested = [e.data["call_id"] for e in events if e.type == "tool.requested"]
        ended = {e.data["call_id"]: e.data["error"] for e in events if e.type == "tool.completed"}
        approval = last(events, "approval.requested")
        edited = await ada.decide(
            session, approval["approval_id"], "edit", modified_arguments={"path": "secrets/x", "content": ""}
        )

        assert requested == ["free"]
        assert ended == {"denied": "No secrets", "pushed": "Pushing is for people"}
        assert approval["call_id"] == "asked"
        assert (edited.status_code, edited.json()["code"]) == (400, "denied")

    async def test_what_is_denied_by_now_cannot_be_approved(self, serve: Serve, tmp_path: Path) -> None:
        """An approval that waited while the operator changed the file: refused, and still to be rejected."""
        async with serve() as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            await ada.say(session, "create hello.py that prints hi")
            approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
        file = tmp_path / "policy.yaml"
        file.write_text(
            "rules:\n  - {tool: write_file, path: hello.py, effect: deny, reason: Not that}\n", encoding="utf-8"
        )
        async with serve(policy_file=file) as running:
            ada = await running.person()
            approved = await ada.decide(session, approval["approval_id"], "approve")
            rejected = await ada.decide(session, approval["approval_id"], "reject")

        assert (approved.status_code, approved.json()["code"]) == (409, "denied")
        assert "Not that" in approved.json()["detail"]
        assert rejected.status_code == 200

    def test_a_file_that_cannot_be_used_ends_the_start(self, tmp_path: Path) -> None:
        """Before anything is opened."""
        from codelab.app import create_app

        file = tmp_path / "policy.yaml"
        file.write_text("rules:\n  - tool: nothing\n", encoding="utf-8")
        settings = Settings.from_environ({"AGENT_RUNTIME__POLICY_FILE": str(file)})

        with pytest.raises(StartError, match=r"policy\.yaml, line 2: effect: is missing"):
            create_app(settings, issuer="http://127.0.0.1")
