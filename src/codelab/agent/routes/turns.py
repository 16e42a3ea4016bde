"""Routes of turns: messages, claims, tool results, decisions, cancel."""

from __future__ import annotations

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from codelab.agent.idempotency import Once
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
from codelab.identity import Principal

__all__ = ("HANDLERS",)


@post("/sessions/{session_id:str}/messages", status_code=202, summary="Send a message")
async def post_message(
    session_id: FromPath[str],
    data: JSONBody[NewMessage],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
    once: NamedDependency[Once | None],
) -> MessageAccepted:
    """Take a user's message."""
    return await turns.post_message(principal, session_id, data.content, data.delivery, once)


@post("/sessions/{session_id:str}/tool-calls/{call_id:str}/claim", status_code=200, summary="Claim a tool call")
async def claim_call(
    session_id: FromPath[str],
    call_id: FromPath[str],
    data: JSONBody[ClaimRequest],
    principal: NamedDependency[Principal],
    claims: NamedDependency[ClaimService],
    once: NamedDependency[Once | None],
) -> Claim:
    """Give a call to one client, which runs it."""
    return await claims.claim(principal, session_id, call_id, data.client_id, once)


@post("/sessions/{session_id:str}/tool-results", status_code=200, summary="Answer a tool call")
async def post_tool_result(
    session_id: FromPath[str],
    data: JSONBody[ToolResult],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
    once: NamedDependency[Once | None],
) -> ToolResultTaken:
    """Take the client's result of a tool call."""
    return await turns.take_result(
        principal, session_id, data.call_id, data.result, data.error, once, client=data.client_id
    )


@get("/sessions/{session_id:str}/pending-approvals", summary="What waits for a person")
async def list_pending_approvals(
    session_id: FromPath[str], principal: NamedDependency[Principal], approvals: NamedDependency[ApprovalService]
) -> ApprovalList:
    """List the pending approvals of a session."""
    pending = await approvals.list_pending(principal, session_id)
    return ApprovalList(session_id=session_id, pending_approvals=pending, count=len(pending))


@post(
    "/sessions/{session_id:str}/approvals/{approval_id:str}",
    status_code=200,
    opt={"scope": "approvals:decide"},
    summary="Decide an approval",
)
async def decide_approval(
    session_id: FromPath[str],
    approval_id: FromPath[str],
    data: JSONBody[Decision],
    principal: NamedDependency[Principal],
    approvals: NamedDependency[ApprovalService],
    once: NamedDependency[Once | None],
) -> Approval:
    """Take a person's decision."""
    return await approvals.decide(
        principal,
        session_id,
        approval_id,
        data.decision,
        data.modified_arguments,
        data.feedback,
        once,
        grant=data.grant,
    )


@post("/sessions/{session_id:str}/cancel", status_code=200, summary="Stop the active turn")
async def cancel_turn(
    session_id: FromPath[str],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
    once: NamedDependency[Once | None],
) -> TurnState:
    """Cancel the active turn."""
    return await turns.cancel(principal, session_id, once)


@get("/sessions/{session_id:str}/queue", summary="What waits to be answered")
async def list_queue(
    session_id: FromPath[str], principal: NamedDependency[Principal], queue: NamedDependency[QueueService]
) -> Queue:
    """List the turns that have not begun."""
    return await queue.list(principal, session_id)


@delete("/sessions/{session_id:str}/queue/{turn_id:str}", status_code=200, summary="Take a message back")
async def remove_from_queue(
    session_id: FromPath[str],
    turn_id: FromPath[str],
    principal: NamedDependency[Principal],
    queue: NamedDependency[QueueService],
) -> TurnState:
    """Remove a turn that has not begun."""
    return await queue.remove(principal, session_id, turn_id)


HANDLERS = (
    post_message,
    claim_call,
    post_tool_result,
    list_pending_approvals,
    decide_approval,
    cancel_turn,
    list_queue,
    remove_from_queue,
)
