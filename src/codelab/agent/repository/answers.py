"""SQL of the answers that are kept for clients who repeat a request."""

from __future__ import annotations

from codelab.agent.repository.tables import answers
from codelab.db.answers import KeptAnswers

__all__ = ("ANSWERS",)

ANSWERS = KeptAnswers(answers)
