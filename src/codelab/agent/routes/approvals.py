"""Routes of approvals across sessions: a person's own, also as a stream, and everybody's for an administrator."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter

from codelab.agent.inbox import Inbox
from codelab.agent.readers import Following
from codelab.agent.routes.common import AgentRequest, Cursor, Limit
from codelab.agent.schemas import STATUSES, AdminApproval, AdminApprovals, InboxPage, Rejection
from codelab.agent.stream import EventStream, read_cursor
from codelab.agent.turns import ApprovalService
from codelab.errors import BadRequest
from codelab.openapi import tells_events
from codelab.repeating import Repeatable

__all__ = ("HANDLERS",)

ADMIN = {"scope": "api:admin"}
Standing = Annotated[str, QueryParameter(description=f"{', '.join(STATUSES)} or all.")]


def _read_status(status: str) -> str | None:
    if status != "all" and status not in STATUSES:
        raise BadRequest(f"status: must be one of {', '.join(STATUSES)}, all", field="status")
    return None if status == "all" else status


@get("/approvals", summary="Your approvals in all your sessions")
async def list_approvals(
    request: AgentRequest,
    inbox: NamedDependency[Inbox],
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Standing = "pending",
) -> InboxPage:
    """List what waits for you, or was decided, the last changed first."""
    return await inbox.list_page(request.principal, status=_read_status(status), cursor=cursor, limit=limit)


@get("/approvals/events", operation_class=tells_events(), summary="Follow your approvals in all your sessions")
async def follow_approvals(
    request: AgentRequest,
    inbox: NamedDependency[Inbox],
    following: NamedDependency[Following],
    after: Annotated[str | None, QueryParameter(description="Cursor: an id of this stream, or 'latest'.")] = None,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Response[Any]:
    """Stream each approval after a cursor as it is now, then each change as it is committed."""
    owner_id = request.principal.subject
    cursor = read_cursor(after, last_event_id)
    if cursor is None:  # fixed before the answer begins: what a client does once it has the headers is new
        cursor = await inbox.newest(owner_id)
    return EventStream(
        partial(following.readers.watch, request.principal),
        partial(inbox.follow, owner_id, cursor),
        send_timeout=following.send_timeout,
    )


@get("/admin/approvals", opt=ADMIN, summary="Everybody's approvals")
async def list_all_approvals(
    approvals: NamedDependency[ApprovalService],
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Standing = "pending",
) -> AdminApprovals:
    """List the approvals of all people, the newest first."""
    return await approvals.list_all(status=_read_status(status), cursor=cursor, limit=limit)


@post(
    "/admin/approvals/{approval_id:str}/reject",
    status_code=200,
    opt=ADMIN,
    operation_class=Repeatable,
    summary="Reject anybody's approval",
)
async def reject_approval(
    request: AgentRequest,
    approval_id: FromPath[str],
    data: JSONBody[Rejection],
    approvals: NamedDependency[ApprovalService],
) -> AdminApproval:
    """Reject an approval as an administrator; only its owner can approve it."""
    return await approvals.reject_any(request.principal, approval_id, data.feedback, request.once)


HANDLERS = (list_approvals, follow_approvals, list_all_approvals, reject_approval)
