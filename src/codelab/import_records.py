"""What another system's data look like when a module takes them over, and how the outcome is counted.

Whoever reads the other system (``codelab.reference``) makes these records; the modules know only them. All times are
UTC, all text can be stored by both databases.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

import msgspec

__all__ = (
    "AnswerRecord",
    "ApprovalRecord",
    "AuditRecord",
    "CallRecord",
    "ClientRecord",
    "Note",
    "ResultRecord",
    "SessionRecord",
    "StrayRecord",
    "SwitchRecord",
    "Tally",
    "TokenKey",
    "TokenRecord",
    "TurnRecord",
    "UserRecord",
    "derived_id",
)

_NAMESPACE = uuid.UUID("8c1d8f3e-6a52-5e0b-9d0c-1f7f0d8a4b11")


def derived_id(*parts: str) -> str:
    """Make an id of 36 characters that is the same for the same parts, so that a second run finds what is there."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


class Record(msgspec.Struct, kw_only=True):
    """Base of the records."""


class Note(Record):
    """Something about one thing that a person should know: ``where`` names it by its id in the other system."""

    kind: str
    where: str
    what: str


# Module auth


class UserRecord(Record):
    """A person."""

    id: str
    username: str
    email: str
    password_hash: str
    is_active: bool
    is_verified: bool
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None


class ClientRecord(Record):
    """A program that asks for tokens; scopes and grant types as the other system names them."""

    id: str
    client_id: str
    name: str
    description: str | None
    is_confidential: bool
    scopes: tuple[str, ...]
    grant_types: tuple[str, ...]
    access_token_lifetime: int
    refresh_token_lifetime: int
    is_active: bool
    created_at: datetime
    updated_at: datetime


class TokenRecord(Record):
    """A refresh token, known by the SHA-256 (hex) of its ``jti``; ``family_id`` joins what was rotated from one login.

    ``live`` is false for a used one whose return would show that a family was stolen.
    """

    id: str
    jti_hash: str
    parent_jti_hash: str | None
    family_id: str
    user_id: str
    client_id: str
    scopes: tuple[str, ...]
    expires_at: datetime
    revoked_at: datetime | None
    live: bool
    created_at: datetime


class TokenKey(Record):
    """The RSA public key (a JWK) that proves the other system's refresh tokens, and what they must say."""

    public_jwk: dict[str, Any]
    issuer: str
    audience: str


class AuditRecord(Record):
    """Something that happened and matters for security; ``error`` is None for a success."""

    id: str
    user_id: str | None
    client_id: str
    event: str
    data: dict[str, Any]
    ip_address: str | None
    user_agent: str | None
    error: str | None
    at: datetime


# Module agent


class ResultRecord(Record):
    """The one result of a call: ``text`` is what the model sees; ``message_id`` is None when it was never given."""

    message_id: str | None
    text: str
    status: Literal["completed", "failed", "rejected", "cancelled"]
    at: datetime


class ApprovalRecord(Record):
    """A question to a person and what was decided."""

    id: str
    arguments: dict[str, Any]
    reason: str | None
    status: Literal["pending", "approved", "rejected", "cancelled"]
    created_at: datetime
    decided_at: datetime | None
    feedback: str | None


class CallRecord(Record):
    """A call of a tool. Without a result it waits for the decision of its pending approval."""

    id: str
    tool_name: str
    arguments: dict[str, Any]
    result: ResultRecord | None
    approval: ApprovalRecord | None


class AnswerRecord(Record):
    """What the model said in one call."""

    message_id: str
    content: str
    at: datetime
    calls: tuple[CallRecord, ...]
    metadata: dict[str, Any] | None = None


class StrayRecord(Record):
    """A message that no model may see again, kept for people: it would make the transcript invalid."""

    message_id: str
    role: Literal["system", "tool"]
    content: str
    at: datetime


class TurnRecord(Record):
    """A user's message and what followed from it, in order."""

    message_id: str
    content: str
    at: datetime
    steps: tuple[AnswerRecord | StrayRecord, ...]
    metadata: dict[str, Any] | None = None


class SwitchRecord(Record):
    """A hand-over from agent to agent."""

    id: str
    from_agent: str | None
    to_agent: str
    at: datetime
    reason: str | None
    confidence: str | None
    by: Literal["router", "agent", "user"]


class SessionRecord(Record):
    """A conversation. ``reference_id`` is its id in the other system, ``id`` the one that it can have here.

    ``context_ids`` are the ids by which an earlier run may have taken it over, the one to use now first. ``rows``
    counts what belongs to it by kind; ``repairs`` and ``left_out`` (one note for each row) say what was done to make it
    valid.
    """

    id: str
    reference_id: str
    title: str | None
    description: str | None
    created_at: datetime
    last_activity: datetime
    is_active: bool
    deleted_at: datetime | None
    context_ids: tuple[str, ...]
    current_agent: str
    switch_count: int
    context_created_at: datetime
    context_updated_at: datetime
    turns: tuple[TurnRecord, ...]
    switches: tuple[SwitchRecord, ...]
    rows: dict[str, int]
    repairs: tuple[Note, ...]
    left_out: tuple[Note, ...]


# The outcome


class Count(msgspec.Struct):
    """How many there were of a kind, and what became of them."""

    read: int = 0
    imported: int = 0
    already_there: int = 0
    skipped: int = 0


class Tally(msgspec.Struct):
    """The outcome: counts for each kind, what was mended and what was left out."""

    counts: dict[str, Count] = msgspec.field(default_factory=dict)
    repairs: list[Note] = msgspec.field(default_factory=list)
    skips: list[Note] = msgspec.field(default_factory=list)

    def of(self, kind: str) -> Count:
        """Return the counts of a kind."""
        return self.counts.setdefault(kind, Count())

    def mend(self, kind: str, where: str, what: str) -> None:
        """Note a repair."""
        self.repairs.append(Note(kind=kind, where=where, what=what))

    def skip(self, kind: str, where: str, what: str, *, rows: int = 1) -> None:
        """Note what is left out, and count it."""
        self.of(kind).skipped += rows
        self.skips.append(Note(kind=kind, where=where, what=what))
