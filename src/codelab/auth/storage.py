"""What module ``auth`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from pathlib import Path

from codelab.auth.models import AuthBase
from codelab.auth.repository_checks import CHECKS
from codelab.db import ModuleSchema
from codelab.storage import ModuleStorage, Root

__all__ = ("SCHEMA", "STORAGE")

SCHEMA = ModuleSchema(
    module="auth",
    variable="AUTH_SERVICE__DB_URL",
    metadata=AuthBase.metadata,
    migrations=Path(__file__).with_name("migrations"),
)
STORAGE = ModuleStorage(
    schema=SCHEMA,
    person_name=Root("users", "username"),
    person_roots=(Root("users", "id"), Root("audit_logs", "user_id")),
    checks=CHECKS,
)
