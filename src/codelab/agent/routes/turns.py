"""Routes of turns: messages, claims, tool results, decisions, cancel."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas import (
    Approval,
    ApprovalList,
    Claim,
    ClaimRequest,
    Decision,
    MessageAccepted,
    NewMessage,
    Queue,
    ToolResult,
    ToolResultTaken,
    TurnState,
)
from codelab.agent.turns import ApprovalService, ClaimService, QueueService, TurnService
from codelab.repeating import Repeatable

__all__ = ("HANDLERS", "MESSAGE_HANDLERS")


@post("/sessions/{session_id:str}/messages", status_code=202, operation_class=Repeatable, summary="Send a message")
async def post_message(
    request: AgentRequest,
    session_id: FromPath[str],
    data: JSONBody[NewMessage],
    turns: NamedDependency[TurnService],
) -> MessageAccepted:
    """Take a user's message."""
    return await turns.post_message(
        request.principal, session_id, data.content, data.delivery, request.once, images=data.images
    )


@post(
    "/sessions/{session_id:str}/tool-calls/{call_id:str}/claim",
    status_code=200,
    operation_class=Repeatable,
    summary="Claim a tool call",
)
async def claim_call(
    request: AgentRequest,
    session_id: FromPath[str],
    call_id: FromPath[str],
    data: JSONBody[ClaimRequest],
    claims: NamedDependency[ClaimService],
) -> Claim:
    """Give a call to one client, which runs it."""
    return await claims.claim(request.principal, session_id, call_id, data.client_id, request.once)


@post(
    "/sessions/{session_id:str}/tool-results", status_code=200, operation_class=Repeatable, summary="Answer a tool call"
)
async def post_tool_result(
    request: AgentRequest,
    session_id: FromPath[str],
    data: JSONBody[ToolResult],
    turns: NamedDependency[TurnService],
) -> ToolResultTaken:
    """Take the client's result of a tool call."""
    return await turns.take_result(
        request.principal, session_id, data.call_id, data.result, data.error, request.once, client=data.client_id
    )


@get("/sessions/{session_id:str}/pending-approvals", summary="What waits for a person")
async def list_pending_approvals(
    request: AgentRequest,
    session_id: FromPath[str],
    approvals: NamedDependency[ApprovalService],
) -> ApprovalList:
    """List the pending approvals of a session."""
    pending = await approvals.list_pending(request.principal, session_id)
    return ApprovalList(session_id=session_id, pending_approvals=pending, count=len(pending))


@post(
    "/sessions/{session_id:str}/approvals/{approval_id:str}",
    status_code=200,
    operation_class=Repeatable,
    opt={"scope": "approvals:decide"},
    summary="Decide an approval",
)
async def decide_approval(
    request: AgentRequest,
    session_id: FromPath[str],
    approval_id: FromPath[str],
    data: JSONBody[Decision],
    approvals: NamedDependency[ApprovalService],
) -> Approval:
    """Take a person's decision."""
    return await approvals.decide(
        request.principal,
        session_id,
        approval_id,
        data.decision,
        data.modified_arguments,
        data.feedback,
        request.once,
        grant=data.grant,
    )


@post("/sessions/{session_id:str}/cancel", status_code=200, operation_class=Repeatable, summary="Stop the active turn")
async def cancel_turn(
    request: AgentRequest,
    session_id: FromPath[str],
    turns: NamedDependency[TurnService],
) -> TurnState:
    """Cancel the active turn."""
    return await turns.cancel(request.principal, session_id, request.once)


@get("/sessions/{session_id:str}/queue", summary="What waits to be answered")
async def list_queue(
    request: AgentRequest,
    session_id: FromPath[str],
    queue: NamedDependency[QueueService],
) -> Queue:
    """List the turns that have not begun."""
    return await queue.list(request.principal, session_id)


@delete("/sessions/{session_id:str}/queue/{turn_id:str}", status_code=200, summary="Take a message back")
async def remove_from_queue(
    request: AgentRequest,
    session_id: FromPath[str],
    turn_id: FromPath[str],
    queue: NamedDependency[QueueService],
) -> TurnState:
    """Remove a turn that has not begun."""
    return await queue.remove(request.principal, session_id, turn_id)


#: Apart from the others: its body may be larger.
MESSAGE_HANDLERS = (post_message,)
HANDLERS = (
    claim_call,
    post_tool_result,
    list_pending_approvals,
    decide_approval,
    cancel_turn,
    list_queue,
    remove_from_queue,
)
