"""May a decision be taken: does it fit what was asked, and does the gate let it through still?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent import gate
from codelab.agent.repository import approvals
from codelab.agent.schemas import Approval
from codelab.agent.tools import InvalidArguments
from codelab.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

    from codelab.agent.agents import Agent, Agents
    from codelab.agent.mcp.tools import ForeignTool
    from codelab.agent.policy import Policy

__all__ = (
    "OverdueError",
    "check_again",
    "check_decision",
    "check_digest",
    "check_edit",
    "check_tool",
    "decided_already",
    "find_agent",
)


class OverdueError(Exception):
    """Undo a decision that came after the time of its approval."""

    def __init__(self, row: Row[Any]) -> None:
        super().__init__(row.request_id)
        self.row = row


def decided_already(row: Row[Any]) -> Conflict:
    """Say how an approval ended."""
    decided = msgspec.to_builtins(Approval.from_row(row))
    return Conflict(f"This was decided already: {row.status}.", code="approval_decided", extra={"approval": decided})


def check_digest(row: Row[Any], arguments: dict[str, Any]) -> None:
    """Raise ``Conflict`` where an approval is not that which was asked."""
    bound = gate.digest(row.session_id, row.agent, row.tool_name, arguments, row.policy_version, row.tool_version)
    if bound != row.digest:
        raise Conflict("This is not what was asked: the approval was changed in the database.", code="approval_changed")


def check_tool(row: Row[Any], foreign: Mapping[str, ForeignTool]) -> None:
    """Raise ``Conflict`` where the tool that was asked about is another one now."""
    if row.tool_version is None:
        return
    tool = foreign.get(row.tool_name)
    if tool is None or tool.version != row.tool_version:
        raise Conflict(
            "The MCP server has changed this tool since it was asked, or does not offer it now.", code="tool_changed"
        )


def check_decision(row: Row[Any] | None, decision: str, modified: dict[str, Any] | None) -> None:
    """Raise ``BadRequest`` where a decision does not fit what is decided."""
    if decision == "edit" and row is not None and row.request_type == approvals.LIMIT:
        raise BadRequest("decision: must be approve or reject, since there is nothing to edit", field="decision")
    if (decision == "edit") != (modified is not None):
        problem = "is required for edit" if decision == "edit" else "is for edit only"
        raise BadRequest(f"modified_arguments: {problem}", field="modified_arguments")


def find_agent(agents: Agents, row: Row[Any]) -> Agent:
    """Return the agent that asked, or raise ``Conflict`` where it is not here any more: nobody knows its rules."""
    if row.agent not in agents:
        raise Conflict(f"There is no agent {row.agent} here any more: this can only be rejected.", code="denied")
    return agents[row.agent]


def check_edit(
    agent: Agent, row: Row[Any], modified: dict[str, Any], policy: Policy, foreign: Mapping[str, ForeignTool]
) -> dict[str, Any]:
    """Pass edited arguments through the gate and return them, or raise ``BadRequest``."""
    try:
        verdict = gate.check_edit(agent, row.tool_name, modified, policy, foreign=foreign)
    except InvalidArguments as error:
        raise BadRequest(f"modified_arguments: {error}", field="modified_arguments") from None
    if verdict.effect == "deny":
        raise BadRequest(f"modified_arguments: {verdict.reason}", code="denied", field="modified_arguments")
    return verdict.arguments


def check_again(
    agent: Agent, row: Row[Any], arguments: dict[str, Any], policy: Policy, foreign: Mapping[str, ForeignTool]
) -> None:
    """Pass what was asked through the gate once more, and raise ``Conflict`` where it is denied now."""
    try:
        verdict = gate.check_edit(agent, row.tool_name, arguments, policy, foreign=foreign)
    except InvalidArguments as error:
        raise Conflict(f"The tool takes these arguments no longer: {error}", code="denied") from None
    if verdict.effect == "deny":
        raise Conflict(f"The policy does not allow this any longer: {verdict.reason}", code="denied")
