"""Routes of the policy: what would become of a call, and the rules of a session."""

from __future__ import annotations

from litestar import get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from codelab.agent.policies import PolicyService
from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas import Call, Explanation, SessionPolicy, SessionPolicyChange

__all__ = ("HANDLERS",)


@post("/policy/explain", status_code=200, opt={"scope": "api:read"}, summary="What would become of a tool call")
async def explain(request: AgentRequest, data: JSONBody[Call], policies: NamedDependency[PolicyService]) -> Explanation:
    """Judge a call without making it; nothing is changed and nobody is asked."""
    return await policies.explain(request.principal, data)


@get("/sessions/{session_id:str}/policy", summary="The rules of a session")
async def get_policy(
    request: AgentRequest, session_id: FromPath[str], policies: NamedDependency[PolicyService]
) -> SessionPolicy:
    """Return the rules that were set for a session."""
    return await policies.get(request.principal, session_id)


@put("/sessions/{session_id:str}/policy", opt={"scope": "approvals:decide"}, summary="Set the rules of a session")
async def set_policy(
    request: AgentRequest,
    session_id: FromPath[str],
    data: JSONBody[SessionPolicyChange],
    policies: NamedDependency[PolicyService],
) -> SessionPolicy:
    """Set the rules of a session in place of those it has; what is denied before them stays denied."""
    return await policies.set(request.principal, session_id, data)


HANDLERS = (explain, get_policy, set_policy)
