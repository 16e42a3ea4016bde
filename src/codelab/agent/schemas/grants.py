"""Grants: what a person asks for beside a decision, and what they have given."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from codelab.agent.policy import Rule
from codelab.agent.schemas.policy import ExplainedRule
from codelab.errors import BadRequest
from codelab.text import Input

if TYPE_CHECKING:
    from sqlalchemy import Row

__all__ = ("SCOPES", "Grant", "GrantList", "GrantPreview", "GrantRequest", "PastCall", "PreviewRequest")

#: Where and how long a grant may hold.
SCOPES = ("once", "times", "until", "turn", "session", "agent", "all_sessions")
#: Not a ``Literal``: msgspec fails to compare one with a lone surrogate.
Scope = Annotated[str, Meta(pattern=rf"^({'|'.join(SCOPES)})$(?!\n)", extra_json_schema={"enum": list(SCOPES)})]
Times = Annotated[int, Meta(ge=1, le=1000)]
Until = Annotated[datetime, Meta(tz=True)]


class GrantRequest(Input):
    """Ask that calls like this one need no decision; ``times`` and ``until`` may limit every scope further."""

    scope: Scope
    times: Times | None = None
    until: Until | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope == "once" and self.times not in {None, 1}:
            raise BadRequest("times: is 1 where the scope is once", field="times")
        for name in ("times", "until"):
            if self.scope == name and getattr(self, name) is None:
                raise BadRequest(f"{name}: is required for this scope", field=name)


class PreviewRequest(GrantRequest):
    """Ask what a grant would be, for the call as it is or as it would be edited."""

    modified_arguments: dict[str, Any] | None = None


class Grant(msgspec.Struct, kw_only=True):
    """A grant: ``session_id``, ``turn_id`` and ``agent`` say where it holds, null is everywhere of yours."""

    grant_id: str
    scope: str
    session_id: str | None
    turn_id: str | None
    agent: str | None
    rule: ExplainedRule
    times_left: int | None
    until: datetime | None
    uses: int
    last_used_at: datetime | None
    approval_id: str
    client_id: str
    created_at: datetime
    revoked_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.grants``."""
        return cls(
            grant_id=row.id,
            scope=row.scope,
            session_id=row.session_id,
            turn_id=row.turn_id,
            agent=row.agent,
            rule=ExplainedRule.of(msgspec.json.decode(row.rule, type=Rule)),
            times_left=row.uses_left,
            until=row.expires_at,
            uses=row.uses,
            last_used_at=row.last_used_at,
            approval_id=row.approval_id,
            client_id=row.client_id,
            created_at=row.created_at,
            revoked_at=row.revoked_at,
        )


class GrantList(msgspec.Struct):
    """A page of grants, the newest first."""

    grants: list[Grant]
    next_cursor: str | None


class PastCall(msgspec.Struct):
    """A call that a grant would have allowed."""

    session_id: str
    call_id: str
    agent: str | None
    tool_name: str
    arguments: dict[str, Any]
    state: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any], arguments: dict[str, Any]) -> Self:
        """Make it from a row of ``repository.grants.last_calls``."""
        return cls(row.session_id, row.call_id, row.agent, row.tool_name, arguments, row.state, row.created_at)


class GrantPreview(msgspec.Struct, kw_only=True):
    """What a grant would be, and which of the last calls it would have allowed."""

    scope: str
    session_id: str | None
    turn_id: str | None
    agent: str | None
    times: int | None
    until: datetime | None
    rule: ExplainedRule
    calls: list[PastCall]
    looked_at: int
