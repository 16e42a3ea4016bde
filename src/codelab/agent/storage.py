"""What module ``agent`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codelab.agent.audit import chain_key
from codelab.agent.models import AgentBase
from codelab.agent.repository.audit import AUDIT, list_audit_ids
from codelab.agent.repository.checks import CHECKS
from codelab.db import ModuleSchema, new_id, now
from codelab.db.chain import Chain
from codelab.errors import StartError
from codelab.key_file import read_key_file
from codelab.storage import ModuleStorage, Root, TrailChain
from codelab.storage.chain import chain_check

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain import ChainKey

__all__ = ("SCHEMA", "STORAGE", "describe")

SCHEMA = ModuleSchema(
    module="agent",
    variable="AGENT_RUNTIME__DB_URL",
    metadata=AgentBase.metadata,
    migrations=Path(__file__).with_name("migrations"),
)
STORAGE = ModuleStorage(
    schema=SCHEMA,
    person_roots=tuple(Root(table, "owner_id") for table in ("sessions", "session_counters", "kept_answers", "grants")),
    session_root=Root("sessions", "id"),
    trail=Root("agent_audit", "owner_id"),
    checks=CHECKS,
)


def describe(key_file: Path) -> ModuleStorage:
    """Describe the module's data, with what needs a setting: the key of the audit chain is in a file."""

    def read_key() -> ChainKey | None:
        key = read_key_file(key_file)
        return None if key is None else chain_key(key)

    async def erase_trail(session: AsyncSession, person_id: str) -> int:
        if (key := read_key()) is None:
            raise StartError(
                f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {key_file} holds no key, and without it the audit trail of "
                "agents would be broken. Nothing was removed from it."
            )
        trail = Chain(AUDIT, key)
        emptied = await trail.erase(session, await list_audit_ids(session, person_id))
        trail.append(session, id=new_id(), event_type="person_erased", created_at=now(), data={"person_id": person_id})
        return emptied

    chain = TrailChain("audit chain of agents", AUDIT, read_key)
    return replace(STORAGE, checks=(*STORAGE.checks, chain_check(*chain)), erase_trail=erase_trail, chain=chain)
