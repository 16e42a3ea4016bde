"""The module's tables as SQLAlchemy Core names them; the repositories write their statements with these."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from codelab.agent.models import (
    AgentContext,
    AgentSwitch,
    ContextSummary,
    FoldedRange,
    Grant,
    KeptAnswer,
    McpServer,
    Message,
    MessageImage,
    PendingApproval,
    Session,
    SessionCounter,
    SessionEvent,
    ToolCall,
    Turn,
)

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = (
    "answers",
    "approvals",
    "calls",
    "contexts",
    "counters",
    "events",
    "folded",
    "grants",
    "images",
    "messages",
    "servers",
    "sessions",
    "summaries",
    "switches",
    "turns",
)

# SQLAlchemy says of ``__table__`` only that one can select from it.
answers = cast("Table", KeptAnswer.__table__)
approvals = cast("Table", PendingApproval.__table__)
calls = cast("Table", ToolCall.__table__)
contexts = cast("Table", AgentContext.__table__)
counters = cast("Table", SessionCounter.__table__)
events = cast("Table", SessionEvent.__table__)
folded = cast("Table", FoldedRange.__table__)
grants = cast("Table", Grant.__table__)
images = cast("Table", MessageImage.__table__)
messages = cast("Table", Message.__table__)
servers = cast("Table", McpServer.__table__)
sessions = cast("Table", Session.__table__)
summaries = cast("Table", ContextSummary.__table__)
switches = cast("Table", AgentSwitch.__table__)
turns = cast("Table", Turn.__table__)
