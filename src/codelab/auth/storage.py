"""What module ``auth`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codelab.auth.audit import chain_key
from codelab.auth.models import AuthBase
from codelab.auth.people import models as _people  # noqa: F401 - its tables belong to the metadata
from codelab.auth.repository import audit
from codelab.auth.repository.answers import ANSWERS, has_answers
from codelab.auth.repository.checks import CHECKS
from codelab.db import ModuleSchema, new_id, now
from codelab.db.chain import Chain
from codelab.errors import StartError
from codelab.key_file import read_key_file
from codelab.storage import ModuleStorage, Root, TrailChain
from codelab.storage.chain import chain_check

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain import ChainKey
    from codelab.settings import AuthSettings

__all__ = ("SCHEMA", "STORAGE", "describe")

SCHEMA = ModuleSchema(
    module="auth",
    variable="AUTH_SERVICE__DB_URL",
    metadata=AuthBase.metadata,
    migrations=Path(__file__).with_name("migrations"),
)
STORAGE = ModuleStorage(
    schema=SCHEMA,
    person_name=Root("users", "username"),
    person_roots=(Root("users", "id"), Root("auth_kept_answers", "owner_id")),
    trail=Root("audit_logs", "user_id"),
    checks=CHECKS,
)


def describe(settings: AuthSettings) -> ModuleStorage:
    """Describe the module's data, with what needs a setting: the key of the audit chain is in a file."""

    def read_key() -> ChainKey | None:
        key = read_key_file(settings.key_encryption_key_file)
        return None if key is None else chain_key(key)

    async def erase_trail(session: AsyncSession, user_id: str) -> int:
        if (key := read_key()) is None:
            raise StartError(
                f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {settings.key_encryption_key_file} holds no key, and without "
                "it the audit trail would be broken. Nothing was removed from it."
            )
        # What administrators were answered about them; a database of an older schema keeps no answers.
        if await (await session.connection()).run_sync(has_answers):
            await ANSWERS.remove_telling_of(session, "id", user_id)
        chain = Chain(audit.AUDIT, key)
        emptied = await chain.erase(session, await audit.list_audit_ids(session, user_id))
        row = {"id": new_id(), "event_type": "user_erased", "event_data": {"user_id": user_id}}
        audit.insert_audit_log(session, chain, **row, success=True, created_at=now())
        return emptied

    told = TrailChain("audit chain", audit.AUDIT, read_key)
    return replace(STORAGE, checks=(*STORAGE.checks, chain_check(*told)), erase_trail=erase_trail, chain=told)
