"""SQL of personal access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, insert, select, update

from codelab.auth.repository.tables import personal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("TokenRecord", "delete_token", "find_token", "insert_token", "list_tokens", "note_uses")


class TokenRecord(NamedTuple):
    """A personal access token as the database knows it."""

    id: str
    user_id: str
    name: str
    scope: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


_TOKEN = tuple(personal.c[name] for name in TokenRecord._fields)


async def insert_token(session: AsyncSession, **values: Any) -> None:
    """Insert a token."""
    await session.execute(insert(personal).values(values))


async def find_token(session: AsyncSession, token_hash: str, at: datetime) -> TokenRecord | None:
    """Find a token by its hash, unless it has expired."""
    statement = select(*_TOKEN).where(personal.c.token_hash == token_hash, personal.c.expires_at > at)
    row = (await session.execute(statement)).one_or_none()
    return TokenRecord(*row) if row else None


async def list_tokens(session: AsyncSession, user_id: str, at: datetime) -> list[TokenRecord]:
    """List the tokens of a person, the newest first."""
    statement = (
        select(*_TOKEN)
        .where(personal.c.user_id == user_id, personal.c.expires_at > at)
        .order_by(personal.c.created_at.desc(), personal.c.id)
    )
    return [TokenRecord(*row) for row in await session.execute(statement)]


async def delete_token(session: AsyncSession, user_id: str, token_id: str) -> datetime | None:
    """Delete a token of this person; return when it would have expired, None when it is not theirs."""
    deleted = delete(personal).where(personal.c.id == token_id, personal.c.user_id == user_id)
    return (await session.execute(deleted.returning(personal.c.expires_at))).scalar_one_or_none()


async def note_uses(session: AsyncSession, used: Mapping[str, datetime]) -> None:
    """Note when tokens were last used."""
    for token_id, at in used.items():
        await session.execute(update(personal).where(personal.c.id == token_id).values(last_used_at=at))
