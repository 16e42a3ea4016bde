"""What module ``agent`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from pathlib import Path

from codelab.agent.models import AgentBase
from codelab.agent.repository.checks import CHECKS
from codelab.db import ModuleSchema
from codelab.storage import ModuleStorage, Root

__all__ = ("SCHEMA", "STORAGE")

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
    checks=CHECKS,
)
