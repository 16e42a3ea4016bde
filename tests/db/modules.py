"""The databases of both modules, without their modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import codelab.agent
import codelab.auth
from codelab.agent.models import AgentBase
from codelab.auth.models import AuthBase
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from sqlalchemy import MetaData

__all__ = ("METADATA", "MIGRATIONS", "MODULES", "VARIABLES", "make_module_database")

MODULES = ("agent", "auth")
METADATA: dict[str, MetaData] = {"agent": AgentBase.metadata, "auth": AuthBase.metadata}
MIGRATIONS = {
    "agent": Path(codelab.agent.__file__).with_name("migrations"),
    "auth": Path(codelab.auth.__file__).with_name("migrations"),
}
VARIABLES = {"agent": "AGENT_RUNTIME__DB_URL", "auth": "AUTH_SERVICE__DB_URL"}


def make_module_database(module: str, url: str, migrations: Path | None = None) -> Database:
    """Make the database of a module as the module makes it, or with other migrations; nothing is opened yet."""
    return Database(
        parse_url(url, VARIABLES[module]),
        module=module,
        metadata=METADATA[module],
        migrations=migrations or MIGRATIONS[module],
    )
