"""The databases of both modules, without their modules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from codelab.agent.storage import SCHEMA as AGENT
from codelab.auth.storage import SCHEMA as AUTH
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.db import Limits, ModuleSchema

__all__ = ("MODULES", "SCHEMAS", "make_module_database")

SCHEMAS: dict[str, ModuleSchema] = {"agent": AGENT, "auth": AUTH}
MODULES = tuple(SCHEMAS)


def make_module_database(
    module: str, url: str, migrations: Path | None = None, limits: Limits | None = None
) -> Database:
    """Make the database of a module as the module makes it, or with other migrations; nothing is opened yet."""
    schema = SCHEMAS[module]
    schema = replace(schema, migrations=migrations or schema.migrations)
    return Database(parse_url(url, schema.variable), schema, limits)
