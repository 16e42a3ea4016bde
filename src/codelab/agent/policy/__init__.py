"""What an agent may do by itself, what a person must approve, and what nobody may: rules, and who decides.

``docs/policy.md`` describes the rules for operators.
"""

from __future__ import annotations

from codelab.agent.policy.decision import Decision, Policy, Step
from codelab.agent.policy.file import RuleError, load_rules, read_rule
from codelab.agent.policy.granting import NotGrantable, exact_rule
from codelab.agent.policy.matching import matches
from codelab.agent.policy.rules import BUILT_IN, Effect, Layer, Rule, built_in_rules

__all__ = (
    "BUILT_IN",
    "Decision",
    "Effect",
    "Layer",
    "NotGrantable",
    "Policy",
    "Rule",
    "RuleError",
    "Step",
    "built_in_rules",
    "exact_rule",
    "load_rules",
    "matches",
    "read_rule",
)
