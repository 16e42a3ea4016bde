"""Routes of grants: what one would be, which there are, and taking one back."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from codelab.agent.grants import GrantService
from codelab.agent.routes.common import AgentRequest, Cursor, Limit
from codelab.agent.schemas import Grant, GrantList, GrantPreview, PreviewRequest

__all__ = ("HANDLERS",)


@post(
    "/sessions/{session_id:str}/approvals/{approval_id:str}/grant-preview",
    status_code=200,
    opt={"scope": "api:read"},
    summary="What a grant would allow",
)
async def preview_grant(
    session_id: FromPath[str],
    approval_id: FromPath[str],
    data: JSONBody[PreviewRequest],
    request: AgentRequest,
    grants: NamedDependency[GrantService],
) -> GrantPreview:
    """Show the rule of a grant, and which of the last calls it would have allowed."""
    modified: dict[str, Any] | None = data.modified_arguments
    return await grants.preview(request.principal, session_id, approval_id, data, modified)


@get("/grants", summary="List your grants")
async def list_grants(
    request: AgentRequest,
    grants: NamedDependency[GrantService],
    limit: Limit = 100,
    cursor: Cursor = None,
    ended: Annotated[bool, QueryParameter(description="Also those that do not hold any more.")] = False,  # noqa: FBT002 - a query parameter
) -> GrantList:
    """List grants, the newest first."""
    return await grants.list(request.principal, ended=ended, cursor=cursor, limit=limit)


@delete("/grants/{grant_id:str}", status_code=200, summary="Take a grant back")
async def revoke_grant(grant_id: FromPath[str], request: AgentRequest, grants: NamedDependency[GrantService]) -> Grant:
    """Revoke a grant; from now on its calls are asked for again."""
    return await grants.revoke(request.principal, grant_id)


HANDLERS = (preview_grant, list_grants, revoke_grant)
