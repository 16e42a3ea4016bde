"""The route of the policy: what would become of a call, and why."""

from __future__ import annotations

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from codelab.agent.explaining import explain_call
from codelab.agent.policy import Policy
from codelab.agent.schemas import Call, Explanation

__all__ = ("HANDLERS",)


@post("/policy/explain", status_code=200, opt={"scope": "api:read"}, summary="What would become of a tool call")
async def explain(data: JSONBody[Call], policy: NamedDependency[Policy]) -> Explanation:
    """Judge a call without making it; nothing is changed and nobody is asked."""
    return explain_call(policy, data.agent, data.tool, data.arguments)


HANDLERS = (explain,)
