"""SQL of what people see and end on the page of their account."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from sqlalchemy import Table, delete, func, select, union, update

from codelab.auth.models import AuthorizationCode, BrowserSession, Consent, OAuthClient, RefreshToken, User
from codelab.auth.repository.revocations import end_login, end_personal_tokens

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

_users = cast("Table", User.__table__)
_browsers = cast("Table", BrowserSession.__table__)
_tokens = cast("Table", RefreshToken.__table__)
_codes = cast("Table", AuthorizationCode.__table__)
_clients = cast("Table", OAuthClient.__table__)
_consents = cast("Table", Consent.__table__)


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
        select(*(_browsers.c[name] for name in WebRecord._fields))
        .where(_browsers.c.user_id == user_id, _browsers.c.expires_at > at)
        .order_by(_browsers.c.auth_time.desc())
    )
    return [WebRecord(*row) for row in await session.execute(statement)]


async def list_logins(session: AsyncSession, user_id: str, at: datetime) -> list[LoginRecord]:
    """List the logins of a person that have a refresh token which is still good, the latest use first."""
    last_used = func.max(_tokens.c.created_at)
    statement = (
        select(_tokens.c.family_id, _clients.c.name, last_used)
        .select_from(_tokens.join(_clients, _clients.c.client_id == _tokens.c.client_id))
        .where(_tokens.c.user_id == user_id, ~_tokens.c.revoked, _tokens.c.expires_at > at)
        .group_by(_tokens.c.family_id, _clients.c.name)
        .order_by(last_used.desc())
    )
    return [LoginRecord(*row) for row in await session.execute(statement)]


async def list_apps(session: AsyncSession, user_id: str) -> list[AppRecord]:
    """List the programs that a person agreed to, by name."""
    statement = (
        select(_consents.c.client_id, _clients.c.name, _consents.c.scope)
        .select_from(_consents.join(_clients, _clients.c.client_id == _consents.c.client_id))
        .where(_consents.c.user_id == user_id)
        .order_by(_clients.c.name, _consents.c.client_id)
    )
    return [AppRecord(*row) for row in await session.execute(statement)]


async def end_browser(session: AsyncSession, user_id: str, browser_id: str) -> bool:
    """End a sign-in of this person; tell whether there was one."""
    ended = delete(_browsers).where(_browsers.c.user_id == user_id, _browsers.c.id == browser_id)
    return (await session.execute(ended.returning(_browsers.c.id))).one_or_none() is not None


async def end_login_of(session: AsyncSession, user_id: str, family_id: str, at: datetime) -> bool:
    """End a login of this person; tell whether it is theirs."""
    theirs = select(_tokens.c.id).where(_tokens.c.user_id == user_id, _tokens.c.family_id == family_id).limit(1)
    if (await session.execute(theirs)).one_or_none() is None:
        return False
    await end_login(session, family_id, at)
    return True


async def delete_consent(session: AsyncSession, user_id: str, client_id: str) -> bool:
    """Forget what a person let a client do; tell whether they did."""
    forgotten = delete(_consents).where(_consents.c.user_id == user_id, _consents.c.client_id == client_id)
    return (await session.execute(forgotten.returning(_consents.c.id))).one_or_none() is not None


async def end_logins_of_client(session: AsyncSession, user_id: str, client_id: str | None, at: datetime) -> None:
    """End the logins of a person with one client, or with all."""
    alive = select(_tokens.c.family_id).where(_tokens.c.user_id == user_id, _tokens.c.expires_at > at)
    codes = select(_codes.c.family_id).where(_codes.c.user_id == user_id)  # a login without a refresh token too
    if client_id is not None:
        alive = alive.where(_tokens.c.client_id == client_id)
        codes = codes.where(_codes.c.client_id == client_id)
    # What is revoked already may have access tokens that live.
    for family_id in (await session.execute(union(alive, codes))).scalars().all():
        await end_login(session, family_id, at)
    forgotten = delete(_codes).where(_codes.c.user_id == user_id, _codes.c.used_at.is_(None))
    if client_id is not None:
        forgotten = forgotten.where(_codes.c.client_id == client_id)
    await session.execute(forgotten)


async def end_everything(session: AsyncSession, user_id: str, at: datetime, *, but: str | None = None) -> None:
    """End all logins of a person, their personal tokens and their sign-ins in browsers, ``but`` one."""
    await end_logins_of_client(session, user_id, None, at)
    await end_personal_tokens(session, user_id)
    ended = delete(_browsers).where(_browsers.c.user_id == user_id)
    await session.execute(ended if but is None else ended.where(_browsers.c.id != but))


async def set_password(session: AsyncSession, user_id: str, new_hash: str, at: datetime) -> None:
    """Give a person a new password."""
    changed = update(_users).where(_users.c.id == user_id).values(password_hash=new_hash, updated_at=at)
    await session.execute(changed)
