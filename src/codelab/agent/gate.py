"""The gate: the one function that a tool call passes before anything happens.

Does this agent have this tool, do the arguments fit its schema, do the agent's path rules allow it, what does the
policy say?
"""

from __future__ import annotations

import hashlib
import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent import policy
from codelab.agent.tools import TOOLS, InvalidArguments, check_arguments, check_value
from codelab.text import canonical_json, decode_lenient

if TYPE_CHECKING:
    from codelab.agent.agents import Agent

__all__ = ("Verdict", "check_call", "check_edit", "digest")


class Verdict(msgspec.Struct, frozen=True):
    """Say what becomes of a call: ``allow``, ``ask`` or ``deny``, and why.

    ``arguments`` are those that were checked; for a denied call with broken JSON they are empty.
    """

    effect: policy.Effect
    reason: str
    arguments: dict[str, Any]


def check_call(agent: Agent, tool: str, arguments: str) -> Verdict:
    """Judge a call as the model wrote it."""
    if tool not in TOOLS or tool not in agent.tools:
        return Verdict("deny", f"The agent {agent.name} does not have the tool {tool}.", _readable(arguments))
    try:
        checked = check_arguments(tool, arguments)
    except InvalidArguments as error:
        return Verdict("deny", f"Invalid arguments for {tool}: {error}", _readable(arguments))
    return _judge(agent, tool, checked)


def check_edit(agent: Agent, tool: str, arguments: dict[str, Any]) -> Verdict:
    """Judge arguments that a person changed: the same gate again.

    Raises:
        InvalidArguments: they do not fit the tool's schema.
    """
    return _judge(agent, tool, check_value(tool, arguments))


def digest(session_id: str, agent: str, tool: str, arguments: dict[str, Any]) -> str:
    """Bind an approval to exactly one call: SHA-256, lower-case hex, of canonical JSON."""
    bound = {"session": session_id, "agent": agent, "tool": tool, "arguments": arguments}
    return hashlib.sha256(canonical_json(bound).encode()).hexdigest()


def _judge(agent: Agent, tool: str, arguments: dict[str, Any]) -> Verdict:
    if (pattern := agent.path_rules.get(tool)) is not None:
        path = posixpath.normpath(str(arguments.get("path", "")).replace("\\", "/"))
        if pattern.fullmatch(path) is None:
            reason = (
                f"The agent {agent.name} may use {tool} only on paths that match {pattern.pattern}; {path} does not."
            )
            return Verdict("deny", reason, arguments)
    rule = policy.decide(tool)
    return Verdict(rule.effect, rule.reason, arguments)


def _readable(arguments: str) -> dict[str, Any]:
    try:
        value = decode_lenient(arguments.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
