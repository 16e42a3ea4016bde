"""SQL of browser sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, insert, select, update

from codelab.auth.repository.tables import browsers, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("BrowserRecord", "count_wrong_code", "delete_browser", "find_browser", "insert_browser")


class BrowserRecord(NamedTuple):
    """A browser in which somebody is signed in."""

    id: str
    user_id: str
    auth_time: datetime
    wrong_codes: int
    username: str
    is_admin: bool


_BROWSER = (*(browsers.c[name] for name in BrowserRecord._fields[:-2]), users.c.username, users.c.is_admin)


async def find_browser(session: AsyncSession, token_hash: str, at: datetime) -> BrowserRecord | None:
    """Find the session of a cookie, unless it has ended or its user is disabled."""
    statement = (
        select(*_BROWSER)
        .select_from(browsers.join(users, users.c.id == browsers.c.user_id))
        .where(browsers.c.token_hash == token_hash, browsers.c.expires_at > at, users.c.is_active)
    )
    row = (await session.execute(statement)).one_or_none()
    return BrowserRecord(*row) if row else None


async def insert_browser(session: AsyncSession, **values: Any) -> None:
    """Insert a session."""
    await session.execute(insert(browsers).values(values))


async def count_wrong_code(session: AsyncSession, browser_id: str) -> None:
    """Count a device code that nobody has."""
    counted = update(browsers).where(browsers.c.id == browser_id).values(wrong_codes=browsers.c.wrong_codes + 1)
    await session.execute(counted)


async def delete_browser(session: AsyncSession, token_hash: str) -> None:
    """Delete the session of a cookie, where there is one."""
    await session.execute(delete(browsers).where(browsers.c.token_hash == token_hash))
