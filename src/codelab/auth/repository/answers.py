"""SQL of the answers that are kept for administrators who repeat a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect

from codelab.auth.repository.tables import answers
from codelab.db.answers import KeptAnswers

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ("ANSWERS", "has_answers")

ANSWERS = KeptAnswers(answers)


def has_answers(connection: Connection) -> bool:
    """Tell whether a database has the table, which came with revision ``auth_0007``."""
    return inspect(connection).has_table(answers.name)
