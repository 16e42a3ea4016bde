"""The rule that allows a call again: this tool with exactly this path, or exactly these words, and nothing beside.

Nobody here knows what the arguments of a stranger's tool mean: for one of an MCP server it is all of them.
"""

from __future__ import annotations

from typing import Any

from codelab.agent.policy.calls import Call
from codelab.agent.policy.matching import digest, match
from codelab.agent.policy.paths import why_not_plain
from codelab.agent.policy.rules import MCP, Rule

__all__ = ("NotGrantable", "exact_rule")

GRANTED = "You granted this"


class NotGrantable(ValueError):
    """Say why no rule can name exactly this call; the sentence is for the person."""


def exact_rule(tool: str, arguments: dict[str, Any], tool_version: str | None = None) -> Rule:
    """Make the rule that allows a call again and no other one; ``tool_version`` is that of an MCP server's tool.

    Raises:
        NotGrantable: only what is written plainly can be named, and so recognised: one path, or a command of words.
    """
    if tool.startswith(MCP) and tool_version is not None:
        bound = digest(arguments)
        return Rule(tool=tool, effect="allow", reason=GRANTED, exact=True, arguments=bound, tool_version=tool_version)
    call = Call("", tool, arguments)
    if call.is_command and call.argv is None:
        raise NotGrantable("a command with more than plain words is asked each time")
    if call.paths is None or len(call.paths) != 1:
        raise NotGrantable(f"{tool} is asked each time, since no single path or command names what it does")
    (path,) = call.paths
    if (problem := why_not_plain(path)) is not None:
        raise NotGrantable(f"the path {problem}, and only plain ones can be granted")
    rule = Rule(tool=tool, effect="allow", reason=GRANTED, path=path, command=call.argv, exact=True)
    if not match(rule, call).matched:
        raise NotGrantable("a call with these arguments is asked each time")
    return rule
