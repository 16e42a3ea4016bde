"""What a rule of the policy is, and the rules that codelab comes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ("BUILT_IN", "CHANGES_FILES", "MCP", "Effect", "Layer", "Rule", "built_in_rules")

#: What the names of tools of MCP servers begin with.
MCP = "mcp__"

Effect = Literal["allow", "ask", "deny"]
#: Where a rule comes from, in the order in which the layers are read.
Layer = Literal["built-in", "operator", "session", "grants"]


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Give an effect to calls; ``reason`` is shown to the person who is asked and to the model that is refused.

    ``tool`` and ``agent`` are globs of names. ``path`` is a glob of paths from the project folder; for a command it
    is about the folder that the command runs in. ``command`` is the beginning of a command, word by word. With
    ``exact`` path and command are meant as they stand and whole: no globs, no further words.
    ``source`` says where the rule is written.

    Only grants for tools of MCP servers have ``arguments``, the digest of all of them, and ``tool_version``, that of
    the tool as its server described it.
    """

    tool: str
    effect: Effect
    reason: str
    agent: str = "*"
    path: str | None = None
    command: tuple[str, ...] | None = None
    exact: bool = False
    source: str | None = None
    arguments: str | None = None
    tool_version: str | None = None


#: Tools that change files without running anything.
CHANGES_FILES = ("write_file", "apply_diff", "create_directory", "delete_file", "move_file")
_READS = ("read_file", "list_files", "search_in_code")
_TALKS = ("ask_followup_question", "attempt_completion", "update_plan")
_CHANGE = "File modification requires user approval"
_ASKS = {
    "write_file": _CHANGE,
    "apply_diff": _CHANGE,
    "create_directory": "Directory creation requires user approval",
    "delete_file": "File deletion requires user approval",
    "move_file": "File move requires user approval",
    "execute_command": "Command execution requires user approval",
}

#: The reference system's rules; what it does not name asks. That the architect writes Markdown only is a path rule of
#: that agent's definition, which no policy can lift.
BUILT_IN: tuple[Rule, ...] = (
    Rule(tool="*", effect="ask", reason="Tool requires user approval"),
    *(Rule(tool=tool, effect="allow", reason="Reading is allowed") for tool in _READS),
    Rule(tool="switch_mode", effect="allow", reason="Agents may hand over"),
    *(Rule(tool=tool, effect="allow", reason="Talking to the person is allowed") for tool in _TALKS),
    *(Rule(tool=tool, effect="ask", reason=reason) for tool, reason in _ASKS.items()),
    *(
        Rule(tool=tool, agent=agent, effect="deny", reason=f"The agent {agent} never changes files")
        for agent in ("ask", "debug")
        for tool in CHANGES_FILES
    ),
    Rule(tool="execute_command", agent="ask", effect="deny", reason="The agent ask never runs commands"),
)


def built_in_rules(agents: Collection[str]) -> tuple[Rule, ...]:
    """Return those rules for an installation; ``agents`` are those whose definition is ours.

    What is about one agent holds for our definition of it: an operator's own says by its tools what it may do.
    """
    return tuple(rule for rule in BUILT_IN if rule.agent == "*" or rule.agent in agents)
