"""The audit trail of agents: what they were refused, what people decided and granted, and who took over.

A row is written in the transaction that does the thing, last of all, so that a turn pays for one insert more and waits
for nobody. The rows are chained (see ``codelab.db.chain``); what they say of a person can be erased.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

from codelab.agent.repository.audit import AUDIT
from codelab.audit_trail import ChainedTrail
from codelab.db import new_id, now
from codelab.db.chain import ChainKey
from codelab.text import canonical_json, scrub

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc.jwk import OctKey

    from codelab.db import Database, Transaction

__all__ = ("ENDS", "AuditTrail", "Event", "chain_key", "of_arguments")

Event = Literal[
    "agent_switched",
    "approval_approved",
    "approval_expired",
    "approval_rejected",
    "call_denied",
    "grant_made",
    "grant_revoked",
    "mcp_server_added",
    "mcp_server_removed",
    "session_policy_changed",
]

#: The ends of an approval that are audited, by its status; that it became moot is not.
ENDS: dict[str, Event] = {
    "approved": "approval_approved",
    "rejected": "approval_rejected",
    "expired": "approval_expired",
}
_MAX_TEXT = 512
#: Characters of arguments that are kept as they are; of longer ones only the digest is.
_MAX_ARGUMENTS = 4096


def chain_key(key: OctKey) -> ChainKey:
    """Derive the key of the chain from the one in the key file."""
    return ChainKey(key.raw_value, "agent.audit")


class AuditTrail(ChainedTrail):
    """Write the audit trail."""

    def __init__(self, database: Database, key_file: Path) -> None:
        super().__init__(database, key_file, AUDIT, chain_key)

    def record(
        self,
        tx: Transaction,
        event: Event,
        *,
        owner_id: str,
        session_id: str | None = None,
        actor_id: str | None = None,
        client_id: str | None = None,
        **data: Any,
    ) -> None:
        """Write one row; ``actor_id`` is who did it, None for the program. Long text is cut to 512 characters."""
        details = {name: _cut(value) for name, value in data.items() if value is not None}
        self.chain.append(
            tx.session,
            id=new_id(),
            event_type=event,
            created_at=now(),
            owner_id=owner_id,
            actor_id=actor_id,
            client_id=client_id,
            session_id=session_id,
            data=details or None,
        )


def of_arguments(arguments: Any) -> dict[str, Any]:
    """Return what is kept of the arguments of a call: their digest, and they themselves unless they are long."""
    text = canonical_json(arguments)
    kept: dict[str, Any] = {"arguments_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return kept | ({"arguments": arguments} if len(text) <= _MAX_ARGUMENTS else {})


def _cut(value: Any) -> Any:
    return scrub(value[:_MAX_TEXT]) if isinstance(value, str) else value
