"""From a command of a client to the service that carries it out; HTTP has its routes for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent import frames
from codelab.idempotency import read_key

if TYPE_CHECKING:
    from codelab.agent.turns import ApprovalService, ClaimService, TurnService
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("Commands",)

WRITE, DECIDE = "api:write", "approvals:decide"


class Commands:
    """Carry out the commands of clients; answers to keys are kept up to ``max_kept_answer`` bytes."""

    def __init__(
        self, turns: TurnService, approvals: ApprovalService, claims: ClaimService, *, max_kept_answer: int
    ) -> None:
        self._max_kept_answer = max_kept_answer
        self._turns = turns
        self._approvals = approvals
        self._claims = claims

    async def carry_out(
        self, command: frames.Command, principal: Principal, session_id: str, client: str
    ) -> tuple[Any, bool]:
        """Carry out one command of a client; what it returns is committed, in the shape of the route for the same.

        The second value tells whether it is what was answered to the same key before. Raises what the route raises.
        """
        if isinstance(command, frames.Ping):
            return {}, False
        key = command.idempotency_key
        once = None if key is None else read_key(key, "idempotency_key", most=self._max_kept_answer)
        result = await self._carry_out(command, principal, session_id, client, once)
        return result, once is not None and once.replayed

    async def _carry_out(
        self, command: frames.Change, principal: Principal, session_id: str, client: str, once: Once | None
    ) -> Any:
        if isinstance(command, frames.Decide):
            principal.require(DECIDE)
            return await self._approvals.decide(
                principal,
                session_id,
                command.approval_id,
                command.decision,
                command.modified_arguments,
                command.feedback,
                once,
                grant=command.grant,
            )
        principal.require(WRITE)
        turns = self._turns
        match command:
            case frames.SendMessage():
                return await turns.post_message(
                    principal, session_id, command.content, command.delivery, once, images=command.images
                )
            case frames.ClaimCall():
                holder = command.client_id or client
                return await self._claims.claim(principal, session_id, command.call_id, holder, once)
            case frames.SendResult():
                holder = command.client_id or client
                return await turns.take_result(
                    principal, session_id, command.call_id, command.result, command.error, once, client=holder
                )
            case frames.Switch():
                return await turns.switch(principal, session_id, command.target_agent, command.reason, once)
            case frames.Cancel():
                return await turns.cancel(principal, session_id, once)
