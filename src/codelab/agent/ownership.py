"""Sessions are owned: the one place that turns a caller and an id into a session. Another person's does not exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from codelab.agent.repository import sessions
from codelab.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.identity import Principal

__all__ = ("PUBLIC_ID", "require_session")

#: What a public id may look like; anything else names nothing, and need not be asked of a database.
#: (``$`` alone would let a line feed follow; ECMAScript, which reads it in the OpenAPI document, has no ``\Z``.)
PUBLIC_ID = r"^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,36}$(?!\n)"
_PUBLIC_ID = re.compile(PUBLIC_ID)


async def require_session(db: AsyncSession, principal: Principal, session_id: str) -> Row[Any]:
    """Return a live session of the caller.

    Raises:
        NotFound: there is none with that id, or it belongs to somebody else.
    """
    row = await sessions.find(db, principal.subject, session_id) if _PUBLIC_ID.fullmatch(session_id) else None
    if row is None:
        raise NotFound("There is no such session.", code="unknown_session")
    return row
