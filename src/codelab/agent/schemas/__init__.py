"""What goes over the wire: the bodies of requests and answers, as ``docs/api.md`` describes them."""

from __future__ import annotations

from codelab.agent.schemas.agents import AgentContextInfo, AgentInfo, AgentList, ContextAnswer, Switch, SwitchRequest
from codelab.agent.schemas.approvals import (
    STATUSES,
    AdminApproval,
    AdminApprovals,
    Approval,
    ApprovalList,
    Decision,
    InboxPage,
    Rejection,
)
from codelab.agent.schemas.context import ContextMessage, ContextView, Summary
from codelab.agent.schemas.grants import Grant, GrantList, GrantPreview, GrantRequest, PastCall, PreviewRequest
from codelab.agent.schemas.history import EventPage, History, HistoryMessage, LoggedEvent
from codelab.agent.schemas.images import MAX_IMAGES, ImageInfo, NewImage
from codelab.agent.schemas.models import ModelInfo, ModelList, ModelPrices
from codelab.agent.schemas.policy import Call, Explanation, SessionPolicy, SessionPolicyChange
from codelab.agent.schemas.sessions import ActiveTurn, NewSession, SessionChange, SessionInfo, SessionList
from codelab.agent.schemas.turns import (
    CallId,
    Claim,
    ClaimRequest,
    ClientId,
    MessageAccepted,
    NewMessage,
    Queue,
    QueuedTurn,
    ToolResult,
    ToolResultTaken,
    TurnState,
)
from codelab.agent.schemas.usage import CallUsage, TotalUsage

__all__ = (
    "MAX_IMAGES",
    "STATUSES",
    "ActiveTurn",
    "AdminApproval",
    "AdminApprovals",
    "AgentContextInfo",
    "AgentInfo",
    "AgentList",
    "Approval",
    "ApprovalList",
    "Call",
    "CallId",
    "CallUsage",
    "Claim",
    "ClaimRequest",
    "ClientId",
    "ContextAnswer",
    "ContextMessage",
    "ContextView",
    "Decision",
    "EventPage",
    "Explanation",
    "Grant",
    "GrantList",
    "GrantPreview",
    "GrantRequest",
    "History",
    "HistoryMessage",
    "ImageInfo",
    "InboxPage",
    "LoggedEvent",
    "MessageAccepted",
    "ModelInfo",
    "ModelList",
    "ModelPrices",
    "NewImage",
    "NewMessage",
    "NewSession",
    "PastCall",
    "PreviewRequest",
    "Queue",
    "QueuedTurn",
    "Rejection",
    "SessionChange",
    "SessionInfo",
    "SessionList",
    "SessionPolicy",
    "SessionPolicyChange",
    "Summary",
    "Switch",
    "SwitchRequest",
    "ToolResult",
    "ToolResultTaken",
    "TotalUsage",
    "TurnState",
)
