"""Answers that are kept for clients who repeat a request."""

from __future__ import annotations

from codelab.agent.models.base import AgentBase
from codelab.db.answers import AnswerRow

__all__ = ("KeptAnswer",)


class KeptAnswer(AnswerRow, AgentBase):
    """What was answered to a request that had an Idempotency-Key."""

    __tablename__ = "kept_answers"
