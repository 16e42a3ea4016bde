"""The gate: the one function that a tool call passes before anything happens.

Does this agent have this tool, do the arguments fit its schema, do the agent's path rules allow it, what does the
policy say?
"""

from __future__ import annotations

import hashlib
import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.checking import check_foreign
from codelab.agent.mcp.tools import is_foreign
from codelab.agent.policy import Effect, Policy, Rule, Step
from codelab.agent.policy.calls import PATHS
from codelab.agent.tools import SWITCH_MODE, TOOLS, InvalidArguments, check_value, read_arguments
from codelab.text import canonical_json, decode_lenient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codelab.agent.agents import Agent
    from codelab.agent.mcp.tools import ForeignTool

__all__ = ("Verdict", "check_call", "check_edit", "digest")


#: The policy where no operator has added to it.
BUILT_IN_ONLY = Policy()
#: The tools of MCP servers where there are none.
NO_FOREIGN: Mapping[str, ForeignTool] = {}


class Verdict(msgspec.Struct, frozen=True):
    """Say what becomes of a call: ``allow``, ``ask`` or ``deny``, and why.

    ``arguments`` are those that were checked; for a denied call with broken JSON they are empty. ``trace`` are the
    rules that were about the call, in order; the one that decided is marked.
    """

    effect: Effect
    reason: str
    arguments: dict[str, Any]
    trace: tuple[Step, ...] = ()


def check_call(
    agent: Agent,
    tool: str,
    arguments: str,
    policy: Policy = BUILT_IN_ONLY,
    grants: tuple[Rule, ...] = (),
    *,
    foreign: Mapping[str, ForeignTool] = NO_FOREIGN,
) -> Verdict:
    """Judge a call as the model wrote it; ``foreign`` are the tools of MCP servers, which every agent has."""
    if not _has(agent, tool, foreign):
        return _refuse_tool(agent, tool, _readable(arguments))
    try:
        checked = _check(tool, read_arguments(arguments), foreign)
        _check_colleague(agent, tool, checked)
    except InvalidArguments as error:
        return _refuse("schema", agent, tool, f"Invalid arguments for {tool}: {error}", _readable(arguments))
    return _judge(agent, tool, checked, policy, grants)


def check_edit(
    agent: Agent,
    tool: str,
    arguments: dict[str, Any],
    policy: Policy = BUILT_IN_ONLY,
    *,
    foreign: Mapping[str, ForeignTool] = NO_FOREIGN,
) -> Verdict:
    """Judge arguments that a person changed: the same gate again.

    Raises:
        InvalidArguments: they do not fit the tool's schema.
    """
    if not _has(agent, tool, foreign):  # its file, or its server, may be another one since it called
        return _refuse_tool(agent, tool, arguments)
    checked = _check(tool, arguments, foreign)
    _check_colleague(agent, tool, checked)
    return _judge(agent, tool, checked, policy)


def digest(
    session_id: str,
    agent: str,
    tool: str,
    arguments: dict[str, Any],
    policy_version: str | None = None,
    tool_version: str | None = None,
) -> str:
    """Bind an approval to one call under one policy: SHA-256, lower-case hex, of canonical JSON.

    Without a version of the policy it is that of an approval which was asked when none was kept. That of the tool is
    for one of an MCP server.
    """
    bound: dict[str, Any] = {"session": session_id, "agent": agent, "tool": tool, "arguments": arguments}
    if policy_version is not None:
        bound["policy"] = policy_version
    if tool_version is not None:
        bound["tool_version"] = tool_version
    return hashlib.sha256(canonical_json(bound).encode()).hexdigest()


def _has(agent: Agent, tool: str, foreign: Mapping[str, ForeignTool]) -> bool:
    return tool in foreign if is_foreign(tool) else tool in TOOLS and tool in agent.tools


def _check(tool: str, arguments: dict[str, Any], foreign: Mapping[str, ForeignTool]) -> dict[str, Any]:
    return check_foreign(foreign[tool].parameters, arguments) if is_foreign(tool) else check_value(tool, arguments)


def _judge(
    agent: Agent, tool: str, arguments: dict[str, Any], policy: Policy, grants: tuple[Rule, ...] = ()
) -> Verdict:
    if (pattern := agent.path_rules.get(tool)) is not None:
        for name in PATHS.get(tool) or ("path",):
            path = posixpath.normpath(str(arguments.get(name, "")).replace("\\", "/"))
            if pattern.fullmatch(path) is None:
                only = f"only on paths that match {pattern.pattern}"
                reason = f"The agent {agent.name} may use {tool} {only}; {path} does not."
                return Verdict("deny", reason, arguments, _step("agent", agent, tool, reason))
    decision = policy.decide(agent.name, tool, arguments, grants=grants)
    return Verdict(decision.effect, decision.reason, arguments, decision.trace)


def _check_colleague(agent: Agent, tool: str, arguments: dict[str, Any]) -> None:
    """Check what the schema cannot know: which agents there are to hand over to."""
    if tool == SWITCH_MODE and arguments["mode"] not in agent.colleagues:
        raise InvalidArguments(f"mode: {arguments['mode'][:100]!r} is not one of {', '.join(agent.colleagues)}")


def _refuse_tool(agent: Agent, tool: str, arguments: dict[str, Any]) -> Verdict:
    return _refuse("agent", agent, tool, f"The agent {agent.name} does not have the tool {tool}.", arguments)


def _refuse(layer: str, agent: Agent, tool: str, reason: str, arguments: dict[str, Any]) -> Verdict:
    return Verdict("deny", reason, arguments, _step(layer, agent, tool, reason))


def _step(layer: str, agent: Agent, tool: str, reason: str) -> tuple[Step, ...]:
    rule = Rule(tool=tool, agent=agent.name, effect="deny", reason=reason)
    return (Step(layer, rule, "deny", matched=True, decided=True),)


def _readable(arguments: str) -> dict[str, Any]:
    try:
        value = decode_lenient(arguments.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
