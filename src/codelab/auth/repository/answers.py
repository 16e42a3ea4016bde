"""SQL of the answers that are kept for administrators who repeat a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from codelab.auth.models import KeptAnswer
from codelab.db.answers import KeptAnswers

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ("ANSWERS",)

ANSWERS = KeptAnswers(cast("Table", KeptAnswer.__table__))
