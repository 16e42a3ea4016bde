"""SQL of the programs that ask for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import bindparam, delete, func, select, update

from codelab.auth.repository.common import insert_if_absent
from codelab.auth.repository.tables import clients

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "ClientRecord",
    "ClientRow",
    "change_client",
    "count_unused",
    "delete_client",
    "delete_unused",
    "find_active_clients",
    "find_client",
    "find_client_row",
    "find_document_expiry",
    "find_logout_uris",
    "insert_client_if_absent",
    "list_clients",
    "note_first_use",
    "set_client_lifetimes",
)


class ClientRecord(NamedTuple):
    """A client as the database knows it; ``client_secret_hash`` is SHA-256 in hex."""

    client_id: str
    client_secret_hash: str | None
    is_confidential: bool
    allowed_scopes: str
    default_scopes: str
    allowed_grant_types: list[str]
    access_token_lifetime: int
    refresh_token_lifetime: int
    is_active: bool
    name: str
    redirect_uris: list[str]
    token_endpoint_auth_method: str | None
    is_registered: bool
    last_used_at: datetime | None


class ClientRow(NamedTuple):
    """A client as operators see it."""

    client_id: str
    name: str
    is_confidential: bool
    is_active: bool
    is_registered: bool
    allowed_scopes: str
    default_scopes: str
    allowed_grant_types: list[str]
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    access_token_lifetime: int
    refresh_token_lifetime: int
    created_at: datetime


_ROW = tuple(clients.c[name] for name in ClientRow._fields)
_CLIENT = tuple(clients.c[name] for name in ClientRecord._fields)
# Built once: it is asked with every request.
_BY_ID = select(*_CLIENT).where(clients.c.client_id == bindparam("client_id"))


async def find_client(session: AsyncSession, client_id: str) -> ClientRecord | None:
    """Find a client by the id that it calls itself."""
    row = (await session.execute(_BY_ID, {"client_id": client_id})).one_or_none()
    return ClientRecord(*row) if row else None


async def find_active_clients(session: AsyncSession, client_ids: Sequence[str]) -> set[str]:
    """Return which of the clients are there and not disabled."""
    active = (clients.c.client_id.in_(client_ids)) & clients.c.is_active
    return set((await session.execute(select(clients.c.client_id).where(active))).scalars())


async def count_unused(session: AsyncSession, most: int) -> int:
    """Count the clients that registered themselves and were never given anything, up to a number."""
    unused = select(clients.c.id).where(clients.c.is_registered, clients.c.last_used_at.is_(None)).limit(most)
    return int((await session.execute(select(func.count()).select_from(unused.subquery()))).scalar_one())


async def delete_unused(session: AsyncSession, before: datetime, limit: int) -> int:
    """Delete such clients that registered before a time; return how many."""
    unused = (
        select(clients.c.id)
        .where(clients.c.is_registered, clients.c.last_used_at.is_(None), clients.c.created_at < before)
        .limit(limit)
    )
    deleted = await session.execute(delete(clients).where(clients.c.id.in_(unused)).returning(clients.c.id))
    return len(deleted.all())


async def insert_client_if_absent(session: AsyncSession, **values: Any) -> bool:
    """Insert a client unless its id is taken; tell whether it was inserted."""
    return await insert_if_absent(session, clients, values)


async def set_client_lifetimes(session: AsyncSession, client_id: str, *, access: int, refresh: int) -> None:
    """Set how long a client's tokens live, in seconds."""
    same = (clients.c.access_token_lifetime == access) & (clients.c.refresh_token_lifetime == refresh)
    await session.execute(
        update(clients)
        .where(clients.c.client_id == client_id, ~same)
        .values(access_token_lifetime=access, refresh_token_lifetime=refresh)
    )


async def note_first_use(session: AsyncSession, client_id: str, at: datetime) -> None:
    """Note that a client was given something, so that it is not taken for abandoned."""
    unused = (clients.c.client_id == client_id) & clients.c.last_used_at.is_(None)
    await session.execute(update(clients).where(unused).values(last_used_at=at, updated_at=clients.c.updated_at))


async def find_client_row(session: AsyncSession, client_id: str) -> ClientRow | None:
    """Find a client, as operators see it."""
    row = (await session.execute(select(*_ROW).where(clients.c.client_id == client_id))).one_or_none()
    return ClientRow(*row) if row else None


async def find_document_expiry(session: AsyncSession, client_id: str) -> datetime | None:
    """Return until when a client's document is good, None when it has none or is not known."""
    statement = select(clients.c.document_expires_at).where(clients.c.client_id == client_id)
    return cast("datetime | None", await session.scalar(statement))


async def find_logout_uris(session: AsyncSession, client_id: str) -> list[str]:
    """Return where a client may send browsers after signing out; nowhere when it is disabled."""
    uris = clients.c.post_logout_redirect_uris
    return await session.scalar(select(uris).where(clients.c.client_id == client_id, clients.c.is_active)) or []


async def list_clients(session: AsyncSession, limit: int, after: str) -> list[ClientRow]:
    """List clients by id, those whose ids come after one."""
    statement = select(*_ROW).where(clients.c.client_id > after).order_by(clients.c.client_id).limit(limit)
    return [ClientRow(*row) for row in await session.execute(statement)]


async def change_client(session: AsyncSession, client_id: str, at: datetime, **values: Any) -> None:
    """Change a client."""
    await session.execute(update(clients).where(clients.c.client_id == client_id).values(updated_at=at, **values))


async def delete_client(session: AsyncSession, client_id: str) -> None:
    """Delete a client with all that hangs on it."""
    await session.execute(delete(clients).where(clients.c.client_id == client_id))
