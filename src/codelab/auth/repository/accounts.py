"""SQL of what people see and end on the page of their account."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, func, select, union, update

from codelab.auth.repository.revocations import end_login, end_personal_tokens
from codelab.auth.repository.tables import browsers, clients, codes, consents, tokens, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "AppRecord",
    "LoginRecord",
    "WebRecord",
    "delete_consent",
    "end_browser",
    "end_everything",
    "end_login_of",
    "end_logins_of_client",
    "list_apps",
    "list_browsers",
    "list_logins",
    "set_password",
)


class WebRecord(NamedTuple):
    """A browser in which a person is signed in."""

    id: str
    auth_time: datetime
    ip_address: str | None
    user_agent: str | None


class LoginRecord(NamedTuple):
    """A login of a program that can still get tokens; ``last_used`` is when it last did."""

    family_id: str
    client_name: str
    last_used: datetime


class AppRecord(NamedTuple):
    """A program that a person agreed to."""

    client_id: str
    client_name: str
    scope: str


async def list_browsers(session: AsyncSession, user_id: str, at: datetime) -> list[WebRecord]:
    """List the browsers of a person, the latest sign-in first."""
    statement = (
        select(*(browsers.c[name] for name in WebRecord._fields))
        .where(browsers.c.user_id == user_id, browsers.c.expires_at > at)
        .order_by(browsers.c.auth_time.desc())
    )
    return [WebRecord(*row) for row in await session.execute(statement)]


async def list_logins(session: AsyncSession, user_id: str, at: datetime) -> list[LoginRecord]:
    """List the logins of a person that have a refresh token which is still good, the latest use first."""
    last_used = func.max(tokens.c.created_at)
    statement = (
        select(tokens.c.family_id, clients.c.name, last_used)
        .select_from(tokens.join(clients, clients.c.client_id == tokens.c.client_id))
        .where(tokens.c.user_id == user_id, ~tokens.c.revoked, tokens.c.expires_at > at)
        .group_by(tokens.c.family_id, clients.c.name)
        .order_by(last_used.desc())
    )
    return [LoginRecord(*row) for row in await session.execute(statement)]


async def list_apps(session: AsyncSession, user_id: str) -> list[AppRecord]:
    """List the programs that a person agreed to, by name."""
    statement = (
        select(consents.c.client_id, clients.c.name, consents.c.scope)
        .select_from(consents.join(clients, clients.c.client_id == consents.c.client_id))
        .where(consents.c.user_id == user_id)
        .order_by(clients.c.name, consents.c.client_id)
    )
    return [AppRecord(*row) for row in await session.execute(statement)]


async def end_browser(session: AsyncSession, user_id: str, browser_id: str) -> bool:
    """End a sign-in of this person; tell whether there was one."""
    ended = delete(browsers).where(browsers.c.user_id == user_id, browsers.c.id == browser_id)
    return (await session.execute(ended.returning(browsers.c.id))).one_or_none() is not None


async def end_login_of(session: AsyncSession, user_id: str, family_id: str, at: datetime) -> bool:
    """End a login of this person; tell whether it is theirs."""
    theirs = select(tokens.c.id).where(tokens.c.user_id == user_id, tokens.c.family_id == family_id).limit(1)
    if (await session.execute(theirs)).one_or_none() is None:
        return False
    await end_login(session, family_id, at)
    return True


async def delete_consent(session: AsyncSession, user_id: str, client_id: str) -> bool:
    """Forget what a person let a client do; tell whether they did."""
    forgotten = delete(consents).where(consents.c.user_id == user_id, consents.c.client_id == client_id)
    return (await session.execute(forgotten.returning(consents.c.id))).one_or_none() is not None


async def end_logins_of_client(session: AsyncSession, user_id: str, client_id: str | None, at: datetime) -> None:
    """End the logins of a person with one client, or with all."""
    alive = select(tokens.c.family_id).where(tokens.c.user_id == user_id, tokens.c.expires_at > at)
    logins = select(codes.c.family_id).where(codes.c.user_id == user_id)  # a login without a refresh token too
    if client_id is not None:
        alive = alive.where(tokens.c.client_id == client_id)
        logins = logins.where(codes.c.client_id == client_id)
    # What is revoked already may have access tokens that live.
    for family_id in (await session.execute(union(alive, logins))).scalars().all():
        await end_login(session, family_id, at)
    forgotten = delete(codes).where(codes.c.user_id == user_id, codes.c.used_at.is_(None))
    if client_id is not None:
        forgotten = forgotten.where(codes.c.client_id == client_id)
    await session.execute(forgotten)


async def end_everything(session: AsyncSession, user_id: str, at: datetime, *, but: str | None = None) -> None:
    """End all logins of a person, their personal tokens and their sign-ins in browsers, ``but`` one."""
    await end_logins_of_client(session, user_id, None, at)
    await end_personal_tokens(session, user_id)
    ended = delete(browsers).where(browsers.c.user_id == user_id)
    await session.execute(ended if but is None else ended.where(browsers.c.id != but))


async def set_password(session: AsyncSession, user_id: str, new_hash: str, at: datetime) -> None:
    """Give a person a new password."""
    changed = update(users).where(users.c.id == user_id).values(password_hash=new_hash, updated_at=at)
    await session.execute(changed)
