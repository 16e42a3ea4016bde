"""What module ``auth`` tells about its data to those who move, check and clean it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codelab.auth import repository
from codelab.auth.models import AuthBase
from codelab.db import ModuleSchema, new_id, now
from codelab.storage import ModuleStorage, Root, Trail

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("SCHEMA", "STORAGE")

SCHEMA = ModuleSchema(
    module="auth",
    variable="AUTH_SERVICE__DB_URL",
    metadata=AuthBase.metadata,
    migrations=Path(__file__).with_name("migrations"),
)


async def _record_erased(session: AsyncSession, user_id: str) -> None:
    await repository.insert_audit_log(
        session,
        id=new_id(),
        event_type="user_erased",
        event_data={"user_id": user_id},
        success=True,
        created_at=now(),
    )


STORAGE = ModuleStorage(
    schema=SCHEMA,
    person_name=Root("users", "username"),
    person_roots=(Root("users", "id"), Root("audit_logs", "user_id")),
    trail=Trail(Root("audit_logs", "user_id"), ("user_id", "event_data", "ip_address", "user_agent"), _record_erased),
)
