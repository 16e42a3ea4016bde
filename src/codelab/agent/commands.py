"""From a command of a client to the service that carries it out; HTTP has its routes for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent import frames

if TYPE_CHECKING:
    from codelab.agent.turns import TurnService
    from codelab.identity import Principal

__all__ = ("carry_out",)

WRITE, DECIDE = "api:write", "approvals:decide"


async def carry_out(command: frames.Command, principal: Principal, session_id: str, turns: TurnService) -> Any:
    """Carry out one command; what it returns is committed, in the shape of the route for the same.

    Raises what the route raises.
    """
    match command:
        case frames.Ping():
            return {}
        case frames.Decide():
            principal.require(DECIDE)
            return await turns.decide(
                principal,
                session_id,
                command.approval_id,
                command.decision,
                command.modified_arguments,
                command.feedback,
            )
    principal.require(WRITE)
    match command:
        case frames.SendMessage():
            return await turns.post_message(principal, session_id, command.content)
        case frames.SendResult():
            return await turns.take_result(principal, session_id, command.call_id, command.result, command.error)
        case frames.Switch():
            return await turns.switch(principal, session_id, command.target_agent, command.reason)
        case frames.Cancel():
            return await turns.cancel(principal, session_id)
