"""Which rule decides about a call: the last one that matches, and a deny of the operator before all others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.policy.calls import Call
from codelab.agent.policy.matching import concerns, match
from codelab.agent.policy.rules import BUILT_IN, Effect, Layer, Rule
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Decision", "Policy", "Step")


class Step(msgspec.Struct, frozen=True):
    """One rule of the trace: what it says about the call, and whether it decided.

    ``layer`` is one of the policy's, or ``agent`` or ``schema`` for what comes before the policy. ``effect`` is that
    of the rule, or ``ask`` where nobody can tell whether a rule that denies matches.
    """

    layer: str
    rule: Rule
    effect: Effect
    matched: bool
    decided: bool = False
    note: str | None = None


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a call, why, and every rule that was about its agent and tool, in order."""

    effect: Effect
    reason: str
    trace: tuple[Step, ...]


@dataclass(frozen=True)
class Policy:
    """The rules of an installation: those that codelab comes with, the operator's, and perhaps those of a session."""

    operator: tuple[Rule, ...] = ()
    built_in: tuple[Rule, ...] = BUILT_IN
    session: tuple[Rule, ...] = ()

    def of_session(self, rules: str | None) -> Policy:
        """Return the policy of a session; ``rules`` is the JSON of its own, None where it has none."""
        return self if rules is None else replace(self, session=msgspec.json.decode(rules, type=tuple[Rule, ...]))

    @cached_property
    def version(self) -> str:
        """Name the rules that hold, wherever they are written: SHA-256, lower-case hex, of their canonical JSON."""
        layers = [
            [msgspec.structs.replace(rule, source=None) for rule in rules]
            for rules in (self.built_in, self.operator, self.session)
        ]
        return hashlib.sha256(canonical_json(layers).encode()).hexdigest()

    def decide(
        self,
        agent: str,
        tool: str,
        arguments: dict[str, Any],
        *,
        grants: Iterable[Rule] = (),
    ) -> Decision:
        """Decide about a call whose arguments fit its schema.

        The layers are read in the order built-in, operator, session, grants. Of all rules that match the last one
        decides, but what the operator denies stays denied, and so does what the first two layers come to deny: nobody
        lifts that for a session. Where nobody can tell whether a rule that denies or asks matches, it asks; what the
        operator may deny is never simply allowed.
        """
        call = Call(agent, tool, arguments)
        layers: tuple[tuple[Layer, Iterable[Rule]], ...] = (
            ("built-in", self.built_in),
            ("operator", self.operator),
            ("session", self.session),
            ("grants", grants),
        )
        steps = [_look(layer, rule, call) for layer, rules in layers for rule in rules if concerns(rule, call)]
        decisive = _choose(steps)
        of_installation = [step for step in steps if step.layer in {"built-in", "operator"}]
        if len(of_installation) < len(steps):
            base = _choose(of_installation)
            if base is not None and of_installation[base].effect == "deny":
                decisive = base  # the layers come in order, so it has the same place among all
        trace = tuple(
            msgspec.structs.replace(step, decided=True) if place == decisive else step
            for place, step in enumerate(steps)
        )
        if decisive is None:
            return Decision("ask", "No rule is about this", trace)
        step = steps[decisive]
        possible = step.effect != step.rule.effect
        reason = f"This may come to what is denied: {step.rule.reason}" if possible else step.rule.reason
        return Decision(step.effect, reason, trace)


def _look(layer: Layer, rule: Rule, call: Call) -> Step:
    found = match(rule, call)
    effect: Effect = "ask" if found.possible and not found.matched else rule.effect
    return Step(layer, rule, effect, matched=found.matched or found.possible, note=found.note)


def _choose(steps: list[Step]) -> int | None:
    decisive: int | None = None
    for place, step in enumerate(steps):
        if not step.matched:
            continue
        # "May be denied" is weaker than a deny that is certain.
        weaker = step.effect == "ask" and step.rule.effect == "deny"
        if not (weaker and decisive is not None and steps[decisive].effect == "deny"):
            decisive = place
    operator = [place for place, step in enumerate(steps) if step.matched and _denies(step)]
    certain = [place for place in operator if steps[place].effect == "deny"]
    if certain:
        return certain[-1]
    if operator and decisive is not None and steps[decisive].effect == "allow":
        return operator[-1]
    return decisive


def _denies(step: Step) -> bool:
    return step.layer == "operator" and step.rule.effect == "deny"
