"""What the policy says about a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from codelab.text import Input

if TYPE_CHECKING:
    from codelab.agent.gate import Verdict
    from codelab.agent.policy import Rule, Step

__all__ = (
    "Call",
    "ExplainedRule",
    "Explanation",
    "SessionPolicy",
    "SessionPolicyChange",
    "SessionRule",
    "TraceStep",
)


class Call(Input):
    """A call that an agent might make, in a session where one is named."""

    agent: str
    tool: str
    arguments: dict[str, Any]
    session_id: str | None = None


class SessionRule(Input):
    """A rule of a session as it is written, with the members of a rule in the operator's file."""

    tool: str
    effect: str
    agent: str | None = None
    path: str | None = None
    command: str | list[str] | None = None
    exact: bool | None = None
    reason: str | None = None


class SessionPolicyChange(Input):
    """Set the rules of a session, in place of those that it has."""

    rules: list[SessionRule]


class ExplainedRule(msgspec.Struct):
    """A rule as it was written; ``command`` are its words, ``source`` is the file and line of an operator's rule.

    ``arguments`` is the SHA-256 of all arguments, where a tool of an MCP server was granted.
    """

    tool: str
    agent: str
    path: str | None
    command: tuple[str, ...] | None
    exact: bool
    effect: str
    reason: str
    source: str | None
    arguments: str | None

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Describe a rule."""
        return cls(**{name: getattr(rule, name) for name in cls.__struct_fields__})


class SessionPolicy(msgspec.Struct):
    """The rules of a session; ``policy_version`` names them together with those of the installation."""

    session_id: str
    policy_version: str
    rules: list[ExplainedRule]


class TraceStep(msgspec.Struct):
    """A rule that is about this agent and tool, and what it says about the call."""

    layer: str
    rule: ExplainedRule
    effect: str
    matched: bool
    decided: bool
    note: str | None

    @classmethod
    def of(cls, step: Step) -> Self:
        """Describe a step of the trace."""
        return cls(step.layer, ExplainedRule.of(step.rule), step.effect, step.matched, step.decided, step.note)


class Explanation(msgspec.Struct):
    """What becomes of a call, why, and the rules in the order in which they are read."""

    effect: str
    reason: str
    trace: list[TraceStep]

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Describe a verdict."""
        return cls(verdict.effect, verdict.reason, [TraceStep.of(step) for step in verdict.trace])
