"""Approvals and decisions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from codelab.agent.schemas.grants import Grant, GrantRequest
from codelab.text import Input

if TYPE_CHECKING:
    from sqlalchemy import Row


__all__ = (
    "STATUSES",
    "AdminApproval",
    "AdminApprovals",
    "Approval",
    "ApprovalList",
    "Decision",
    "InboxPage",
    "Rejection",
)

#: Not a ``Literal``: msgspec fails to compare one with a lone surrogate.
DecisionWord = Annotated[
    str,
    Meta(pattern=r"^(approve|edit|reject)$(?!\n)", extra_json_schema={"enum": ["approve", "edit", "reject"]}),
]


#: How an approval may stand.
STATUSES = ("pending", "approved", "rejected", "cancelled", "expired")


class Decision(Input):
    """Decide an approval."""

    decision: DecisionWord
    modified_arguments: dict[str, Any] | None = None
    feedback: str | None = None
    grant: GrantRequest | None = None


class Approval(msgspec.Struct):
    """A question to a person, or how it was decided; ``request_id`` is the reference's name of ``approval_id``.

    ``decided_arguments`` are those with which it was decided, ``decided_client_id`` is the client that the person used.

    ``grant`` is what was granted beside the decision, in the answer to it.
    """

    approval_id: str
    request_id: str
    request_type: str
    subject: str | None
    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    details: dict[str, Any]
    reason: str | None
    created_at: datetime
    status: str
    decision: str | None
    decided_at: datetime | None
    decided_by: str | None
    feedback: str | None
    modified_arguments: dict[str, Any] | None
    grant: Grant | None = None
    session_id: str | None = None
    agent: str | None = None
    expires_at: datetime | None = None
    decided_client_id: str | None = None
    decided_arguments: dict[str, Any] | None = None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.approvals``."""
        arguments = msgspec.json.decode(row.arguments)
        decided = None if row.decided_arguments is None else msgspec.json.decode(row.decided_arguments)
        return cls(
            approval_id=row.request_id,
            request_id=row.request_id,
            request_type=row.request_type,
            subject=row.subject,
            call_id=row.call_id,
            tool_name=row.tool_name,
            arguments=arguments,
            details={"arguments": arguments, "digest": row.digest, "policy_version": row.policy_version},
            reason=row.reason,
            created_at=row.created_at,
            status=row.status,
            decision=row.decision,
            decided_at=row.decision_at,
            decided_by=row.decided_by,
            feedback=row.decision_reason,
            modified_arguments=decided if row.decision == "edit" else None,
            session_id=row.session_id,
            agent=row.agent,
            expires_at=row.expires_at,
            decided_client_id=row.decided_client_id,
            decided_arguments=decided,
        )


class AdminApproval(Approval, kw_only=True):
    """An approval as an administrator sees it; ``owner_id`` is the person whose session it is."""

    owner_id: str

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Make it from a row of ``repository.inbox``."""
        members = msgspec.structs.asdict(Approval.from_row(row))
        return cls(**members, owner_id=row.owner_id)


class AdminApprovals(msgspec.Struct):
    """A page of everybody's approvals, the newest first."""

    approvals: list[AdminApproval]
    next_cursor: str | None


class InboxPage(msgspec.Struct):
    """A page of your approvals, the last changed first."""

    approvals: list[Approval]
    next_cursor: str | None


class Rejection(Input):
    """Reject an approval as an administrator."""

    feedback: str | None = None


class ApprovalList(msgspec.Struct):
    """What waits for a person in a session."""

    session_id: str
    pending_approvals: list[Approval]
    count: int
