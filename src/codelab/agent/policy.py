"""What an agent may do by itself, what a person must approve, and what nobody may: the built-in rules.

Later layers (operator, session, grants) add rules of the same form; the last match wins.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

__all__ = ("BUILT_IN", "Effect", "Rule", "decide")

Effect = Literal["allow", "ask", "deny"]


class Rule(msgspec.Struct, frozen=True):
    """Give an effect to the tools whose name matches a glob; ``reason`` is shown to the person who is asked."""

    tool: str
    effect: Effect
    reason: str


#: The reference system's rules; what it does not name asks.
BUILT_IN: tuple[Rule, ...] = (
    Rule("*", "ask", "Tool requires user approval"),
    Rule("read_file", "allow", "Reading is allowed"),
    Rule("list_files", "allow", "Reading is allowed"),
    Rule("search_in_code", "allow", "Reading is allowed"),
    Rule("switch_mode", "allow", "Agents may hand over"),
    Rule("write_file", "ask", "File modification requires user approval"),
    Rule("create_directory", "ask", "Directory creation requires user approval"),
    Rule("execute_command", "ask", "Command execution requires user approval"),
)


def decide(tool: str, rules: tuple[Rule, ...] = BUILT_IN) -> Rule:
    """Return the last rule that matches the tool."""
    return next(rule for rule in reversed(rules) if fnmatchcase(tool, rule.tool))
