"""What the policy says about a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from codelab.text import Input

if TYPE_CHECKING:
    from codelab.agent.gate import Verdict
    from codelab.agent.policy import Rule, Step

__all__ = ("Call", "ExplainedRule", "Explanation", "TraceStep")


class Call(Input):
    """A call that an agent might make."""

    agent: str
    tool: str
    arguments: dict[str, Any]


class ExplainedRule(msgspec.Struct):
    """A rule as it was written; ``command`` are its words, ``source`` is the file and line of an operator's rule."""

    tool: str
    agent: str
    path: str | None
    command: tuple[str, ...] | None
    exact: bool
    effect: str
    reason: str
    source: str | None

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Describe a rule."""
        return cls(rule.tool, rule.agent, rule.path, rule.command, rule.exact, rule.effect, rule.reason, rule.source)


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
