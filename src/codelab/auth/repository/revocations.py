"""SQL of access tokens that ended before their time."""

from __future__ import annotations

from datetime import timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from sqlalchemy import String, bindparam, delete, literal, select, union, update
from sqlalchemy.dialects import postgresql, sqlite

from codelab.auth.repository.common import insert_if_absent
from codelab.auth.repository.tables import browsers, codes, devices, personal, revoked_ids, tokens
from codelab.auth.repository.tokens import revoke_family

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "LONGEST_LIFE",
    "end_login",
    "end_logins_of_client",
    "end_logins_of_user",
    "end_personal_tokens",
    "find_revoked",
    "insert_revoked",
)


# Built once: it is asked with every request that shows a token.
_FIND = select(revoked_ids.c.id).where(revoked_ids.c.id.in_(bindparam("ids", expanding=True)))
# An IN that grows is written anew each time: for as few ids as one token has, it costs more than the look-up.
_FEW = [f"id{number}" for number in range(4)]
_FIND_FEW = select(revoked_ids.c.id).where(revoked_ids.c.id.in_([bindparam(name, type_=String()) for name in _FEW]))
#: The longest life of an access token that can be set.
LONGEST_LIFE = timedelta(days=1)


async def find_revoked(session: AsyncSession, ids: Sequence[str]) -> set[str]:
    """Return which of the ids were revoked."""
    if len(ids) > len(_FEW):
        return set((await session.execute(_FIND, {"ids": list(ids)})).scalars())
    shown = dict(zip_longest(_FEW, ids, fillvalue=""))
    return {row[0] for row in await session.execute(_FIND_FEW, shown)}


async def insert_revoked(session: AsyncSession, revoked_id: str, expires_at: datetime) -> bool:
    """Revoke by an id until what it stands for has expired by itself; tell whether that is new."""
    return await insert_if_absent(session, revoked_ids, {"id": revoked_id, "expires_at": expires_at})


async def end_login(session: AsyncSession, family_id: str, at: datetime) -> int:
    """End a login: its refresh tokens, and with them its access tokens; return how many of the former were alive."""
    await insert_revoked(session, family_id, at + LONGEST_LIFE)
    return await revoke_family(session, family_id, at)


async def end_logins_of_user(session: AsyncSession, user_id: str, at: datetime) -> int:
    """End all logins of a person, in browsers too, and their personal tokens; return how many logins were alive."""
    await session.execute(delete(browsers).where(browsers.c.user_id == user_id))
    await end_personal_tokens(session, user_id)
    return await _end_logins(session, "user_id", user_id, at)


async def end_personal_tokens(session: AsyncSession, user_id: str) -> None:
    """End the personal access tokens of a person."""
    ended = delete(personal).where(personal.c.user_id == user_id).returning(personal.c.id, personal.c.expires_at)
    for token_id, expires_at in (await session.execute(ended)).all():
        await insert_revoked(session, token_id, expires_at)


async def end_logins_of_client(session: AsyncSession, client_id: str, at: datetime) -> int:
    """End all logins by way of a client; return how many refresh tokens were alive."""
    return await _end_logins(session, "client_id", client_id, at)


async def _end_logins(session: AsyncSession, column: str, value: str, at: datetime) -> int:
    families = union(
        select(tokens.c.family_id).where(tokens.c[column] == value, ~tokens.c.revoked),
        # Those whose clients have no refresh tokens.
        select(codes.c.family_id).where(codes.c[column] == value),
    ).subquery()
    until = literal(at + LONGEST_LIFE, revoked_ids.c.expires_at.type)
    # SQLite takes ON CONFLICT for a part of a join unless the query has a WHERE.
    ended = select(families.c.family_id, until).where(families.c.family_id.is_not(None))
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(revoked_ids).from_select(["id", "expires_at"], ended).on_conflict_do_nothing()
    await session.execute(insert)
    # What was agreed to and is not fetched yet would begin a login afterwards.
    await session.execute(delete(codes).where(codes.c[column] == value, codes.c.used_at.is_(None)))
    await session.execute(delete(devices).where(devices.c[column] == value, devices.c.state == "approved"))
    alive = update(tokens).where(tokens.c[column] == value, ~tokens.c.revoked).values(revoked=True, revoked_at=at)
    return len((await session.execute(alive.returning(tokens.c.id))).all())
