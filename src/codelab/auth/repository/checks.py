"""The rules that the rows of module ``auth`` keep, for ``codelab db check``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from codelab.auth.repository.tables import keys, tokens
from codelab.storage import Check, Finding

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("CHECKS",)


#: Rows that one finding names at most.
NAMED = 10
#: The longest grace that can be set, within which a used refresh token may come back.
MAX_GRACE = timedelta(seconds=300)


async def _find(connection: AsyncConnection, statement: Select[Any], told: str) -> list[Finding]:
    count = (await connection.execute(select(func.count()).select_from(statement.subquery()))).scalar_one()
    if not count:
        return []
    rows = tuple(f"family {row[0]}" for row in await connection.execute(statement.limit(NAMED)))
    return [Finding(check="refresh_tokens", severity="fault", detail=told.format(count=count), rows=rows)]


async def _find_forks(connection: AsyncConnection) -> list[Finding]:
    """Several successors of one token are those of a retry or a race: they were made within the grace."""
    made = tokens.c.created_at
    forks = (
        select(tokens.c.family_id, func.min(made), func.max(made))
        .where(tokens.c.parent_jti_hash.is_not(None))
        .group_by(tokens.c.family_id, tokens.c.parent_jti_hash)
        .having(func.count() > 1)
    )
    late = [family for family, first, last in await connection.execute(forks) if last - first > MAX_GRACE]
    if not late:
        return []
    detail = f"{len(late)} refresh tokens were used more than once"
    rows = tuple(f"family {family}" for family in late[:NAMED])
    return [Finding(check="refresh_tokens", severity="fault", detail=detail, rows=rows)]


async def _find_families(connection: AsyncConnection) -> list[Finding]:
    """A family has one owner, and only its ends are alive: what has a successor is used up."""
    family = select(tokens.c.family_id).group_by(tokens.c.family_id)
    owners = or_(func.count(tokens.c.user_id.distinct()) > 1, func.count(tokens.c.client_id.distinct()) > 1)
    parents = tokens.alias("parents")
    unused = (
        select(tokens.c.family_id)
        .join(parents, parents.c.jti_hash == tokens.c.parent_jti_hash)
        .where(or_(~parents.c.revoked, parents.c.family_id != tokens.c.family_id))
    )
    undated = select(tokens.c.family_id).where(and_(tokens.c.revoked, tokens.c.revoked_at.is_(None)))
    return [
        *await _find(connection, family.having(owners), "{count} families of refresh tokens have several owners"),
        *await _find_forks(connection),
        *await _find(connection, unused, "{count} refresh tokens follow one that is not used up, or another family's"),
        *await _find(connection, undated, "{count} refresh tokens were revoked at no time"),
    ]


async def _find_signing_key(connection: AsyncConnection) -> list[Finding]:
    statement = select(func.count()).select_from(keys).where(keys.c.retired_at.is_(None))
    if (await connection.execute(statement)).scalar_one():
        return []
    detail = "there is no key that signs; a server that starts makes one"
    return [Finding(check="signing_keys", severity="note", detail=detail)]


CHECKS = (Check("refresh_tokens", _find_families), Check("signing_keys", _find_signing_key))
