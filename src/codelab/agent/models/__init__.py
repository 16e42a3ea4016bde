"""The tables of module ``agent``, a file for each noun.

The five tables of the reference system keep their names and columns; ``db_id`` is our internal key, since a public
session id is unique per owner only. ``session_events`` is the log that every client follows, ``turns`` and
``tool_calls`` are the work.
"""

from __future__ import annotations

from codelab.agent.models.answers import KeptAnswer
from codelab.agent.models.audit import AgentAudit, AgentAuditCheckpoint, AgentAuditHead
from codelab.agent.models.base import AgentBase
from codelab.agent.models.grants import Grant
from codelab.agent.models.log import FoldedRange, SessionEvent
from codelab.agent.models.mcp import McpServer
from codelab.agent.models.messages import Message, MessageImage
from codelab.agent.models.sessions import AgentContext, AgentSwitch, Session, SessionCounter
from codelab.agent.models.summaries import ContextSummary
from codelab.agent.models.turns import PendingApproval, ToolCall, Turn

__all__ = (
    "AgentAudit",
    "AgentAuditCheckpoint",
    "AgentAuditHead",
    "AgentBase",
    "AgentContext",
    "AgentSwitch",
    "ContextSummary",
    "FoldedRange",
    "Grant",
    "KeptAnswer",
    "McpServer",
    "Message",
    "MessageImage",
    "PendingApproval",
    "Session",
    "SessionCounter",
    "SessionEvent",
    "ToolCall",
    "Turn",
)
