"""What module ``auth`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codelab.auth import repository
from codelab.auth.audit import chain_key
from codelab.auth.keys import read_key_file
from codelab.auth.models import AuthBase
from codelab.db import ModuleSchema
from codelab.storage import ModuleStorage, Root
from codelab.storage.chain import chain_check

if TYPE_CHECKING:
    from codelab.db.chain import ChainKey
    from codelab.settings import AuthSettings

__all__ = ("SCHEMA", "STORAGE", "describe")

SCHEMA = ModuleSchema(
    module="auth",
    variable="AUTH_SERVICE__DB_URL",
    metadata=AuthBase.metadata,
    migrations=Path(__file__).with_name("migrations"),
)
STORAGE = ModuleStorage(schema=SCHEMA, person_roots=(Root("users", "id"),))


def describe(settings: AuthSettings) -> ModuleStorage:
    """Describe the module's data, with the checks that need a setting: the key of the audit chain is in a file."""

    def read_key() -> ChainKey | None:
        key = read_key_file(settings.key_encryption_key_file)
        return None if key is None else chain_key(key)

    return replace(STORAGE, checks=(*STORAGE.checks, chain_check("audit chain", repository.AUDIT, read_key)))
