"""The audit trail, as operators read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.auth.repository.audit import list_audit_rows
from codelab.auth.schemas import AuditView
from codelab.text import reject_unstorable

if TYPE_CHECKING:
    from codelab.db import Database

__all__ = ("Trail",)


class Trail:
    """Read the audit trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, limit: int, *, before: int | None = None, event: str | None = None, user_id: str | None = None
    ) -> list[AuditView]:
        """List rows, the newest first: those with a smaller ``seq`` than ``before``, of a type, about a person.

        Raises:
            BadRequest: no row can have such a type or person.
        """
        for field, value in (("event", event), ("user_id", user_id)):
            reject_unstorable(value, field)
        async with self._database.read() as session:
            rows = await list_audit_rows(session, limit, before, event, user_id)
        return [AuditView(**row._asdict()) for row in rows]
