"""Say what the gate would do with a call, without one: for the route and the command ``policy explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.agents import load_agents
from codelab.agent.gate import check_call
from codelab.agent.policy import Policy, load_rules
from codelab.agent.schemas import Explanation
from codelab.agent.tools import TOOLS
from codelab.errors import BadRequest
from codelab.text import canonical_json

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("explain_call", "read_policy")

VARIABLE = "AGENT_RUNTIME__POLICY_FILE"


def read_policy(file: Path | None, name: str = VARIABLE) -> Policy:
    """Read the policy of an installation; ``name`` is what named the operator's file.

    Raises:
        StartError: the file cannot be read, or a rule in it cannot be used; the line names the file and its line.
    """
    if file is None:
        return Policy()
    return Policy(load_rules(file, name, agents=load_agents().keys(), tools=TOOLS.keys()))


def explain_call(policy: Policy, agent: str, tool: str, arguments: dict[str, Any]) -> Explanation:
    """Judge a call as the gate would, and tell why.

    Raises:
        BadRequest: there is no such agent.
    """
    agents = load_agents()
    if agent not in agents:
        raise BadRequest(f"agent: must be one of {', '.join(agents)}", field="agent")
    return Explanation.of(check_call(agents[agent], tool, canonical_json(arguments), policy))
