"""Routes of turns: messages, tool results, decisions, cancel."""

from __future__ import annotations

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from codelab.agent.idempotency import Once
from codelab.agent.schemas import (
    Approval,
    ApprovalList,
    Decision,
    MessageAccepted,
    NewMessage,
    ToolResult,
    ToolResultTaken,
    TurnState,
)
from codelab.agent.turns import TurnService
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
    return await turns.post_message(principal, session_id, data.content, once)


@post("/sessions/{session_id:str}/tool-results", status_code=200, summary="Answer a tool call")
async def post_tool_result(
    session_id: FromPath[str],
    data: JSONBody[ToolResult],
    principal: NamedDependency[Principal],
    turns: NamedDependency[TurnService],
    once: NamedDependency[Once | None],
) -> ToolResultTaken:
    """Take the client's result of a tool call."""
    return await turns.take_result(principal, session_id, data.call_id, data.result, data.error, once)


@get("/sessions/{session_id:str}/pending-approvals", summary="What waits for a person")
async def list_pending_approvals(
    session_id: FromPath[str], principal: NamedDependency[Principal], turns: NamedDependency[TurnService]
) -> ApprovalList:
    """List the pending approvals of a session."""
    pending = await turns.list_pending(principal, session_id)
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
    turns: NamedDependency[TurnService],
    once: NamedDependency[Once | None],
) -> Approval:
    """Take a person's decision."""
    return await turns.decide(
        principal, session_id, approval_id, data.decision, data.modified_arguments, data.feedback, once
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


HANDLERS = (post_message, post_tool_result, list_pending_approvals, decide_approval, cancel_turn)
