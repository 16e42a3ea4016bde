"""People, as operators see them: make, look at, disable, enable, give a new password, delete."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from codelab.auth.idempotency import write_once
from codelab.auth.operators.common import check_text
from codelab.auth.policy import check_password
from codelab.auth.repository import revocations, users
from codelab.auth.repository.answers import ANSWERS
from codelab.auth.repository.factors import delete_factor
from codelab.auth.resets import create_reset
from codelab.auth.schemas import UserView
from codelab.auth.seeds import ADMIN
from codelab.db import new_id, now
from codelab.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit, Event
    from codelab.auth.operators.common import Actor
    from codelab.auth.passwords import Passwords
    from codelab.auth.repository.users import UserRow
    from codelab.auth.revocations import Revocations
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once

__all__ = ("NewUser", "Users")

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class NewUser(NamedTuple):
    """A user with their password, where it was made here: nobody can find it out later."""

    user: UserView
    password: str | None


class Users:
    """Administer people. Whoever is disabled, deleted or given another password is logged out everywhere."""

    def __init__(self, database: Database, passwords: Passwords, audit: Audit, ended: Revocations) -> None:
        self._database = database
        self._passwords = passwords
        self._audit = audit
        self._ended = ended

    async def list(self, limit: int, after: str = "") -> list[UserView]:
        """List people by name, those whose names come after one."""
        async with self._database.read() as session:
            return [_view(row) for row in await users.list_users(session, limit, after)]

    async def show(self, username: str) -> UserView:
        """Show one person.

        Raises:
            NotFound: there is no user of that name.
        """
        async with self._database.read() as session:
            return _view(await _find(session, username))

    async def create(
        self, actor: Actor, username: str, email: str, password: str | None = None, *, is_admin: bool = False
    ) -> NewUser:
        """Make a user; without a password one is made.

        Raises:
            BadRequest: the name, the address or the password cannot be used.
            Conflict: somebody has that name or address.
        """
        check_text(username, "username")
        check_text(email, "email")
        if not _EMAIL.fullmatch(email):
            raise BadRequest("email: must be an address like ada@example.com", field="email")
        made, password_hash = await self._hash(password, username, email)
        row_id, at = new_id(), now()

        async def unit(transaction: Transaction) -> UserView | None:
            session = transaction.session
            # Either is asked for at the login: nobody's name may be another one's address.
            if await users.has_user_like(session, username, email):
                return None
            values = {"id": row_id, "username": username, "email": email, "password_hash": password_hash}
            flags = {"is_active": True, "is_verified": False, "is_admin": is_admin}
            if not await users.insert_user_if_absent(session, **values, **flags, created_at=at, updated_at=at):
                return None
            self._record(session, "user_created", actor, row_id, username=username, is_admin=is_admin)
            return _view(await _find(session, username))

        user = await self._database.write(unit)
        if user is None:
            raise Conflict("A user with that name or address is there already.", field="username")
        return NewUser(user, made)

    async def reset_password(self, actor: Actor, username: str, password: str | None = None) -> NewUser:
        """Give a person another password, made here when there is none, and log them out everywhere.

        Raises:
            NotFound: there is no user of that name.
            BadRequest: the password cannot be used.
        """
        await self.show(username)
        made, password_hash = await self._hash(password, username)

        async def change(session: AsyncSession, user: UserRow, at: datetime) -> dict[str, Any]:
            await users.change_user(session, user.id, at, password_hash=password_hash)
            return {"ended": await revocations.end_logins_of_user(session, user.id, at)}

        return NewUser(await self._change(actor, username, "password_reset", change), made)

    async def make_reset_link(self, actor: Actor, username: str, issuer: str) -> str:
        """Return the URL of a page below the issuer's where a person chooses a password: good once, and for a day.

        Raises:
            NotFound: there is no user of that name.
            Conflict: they are disabled, so no password would let them in.
        """

        async def unit(transaction: Transaction) -> str:
            session = transaction.session
            user = await _find(session, username)
            if not user.is_active:
                raise Conflict(f"{username!r} is disabled: enable them first.")
            url = await create_reset(session, user.id, issuer)
            self._record(session, "reset_link_made", actor, user.id)
            return url

        return await self._database.write(unit)

    async def remove_factor(self, actor: Actor, username: str) -> UserView:
        """Let a person who lost their second factor sign in without one.

        Raises:
            NotFound: there is no user of that name, or they have no second factor.
        """

        async def change(session: AsyncSession, user: UserRow, _at: datetime) -> dict[str, Any]:
            if not await delete_factor(session, user.id):
                raise NotFound(f"{username!r} has no second factor.")
            return {}

        return await self._change(actor, username, "second_factor_removed", change)

    async def disable(self, actor: Actor, username: str, once: Once | None = None) -> UserView:
        """Let a person log in no more, and log them out everywhere; nothing of theirs is removed.

        Raises:
            NotFound: there is no user of that name.
            Conflict: it is the last administrator who can log in, or the key of ``once`` came with another request
                before.
        """

        async def change(session: AsyncSession, user: UserRow, at: datetime) -> dict[str, Any] | None:
            if not user.is_active:
                return None
            await _keep_an_administrator(session, user)
            await users.change_user(session, user.id, at, is_active=False)
            return {"ended": await revocations.end_logins_of_user(session, user.id, at)}

        return await self._change(actor, username, "user_disabled", change, once)

    async def enable(self, actor: Actor, username: str, once: Once | None = None) -> UserView:
        """Let a person log in again.

        Raises:
            NotFound: there is no user of that name.
            Conflict: the key of ``once`` came with another request before.
        """

        async def change(session: AsyncSession, user: UserRow, at: datetime) -> dict[str, Any] | None:
            if user.is_active:
                return None
            await users.change_user(session, user.id, at, is_active=True)
            return {}

        return await self._change(actor, username, "user_enabled", change, once)

    async def delete(self, actor: Actor, username: str) -> UserView:
        """Delete an account with all its logins and consents; what it was is returned.

        Raises:
            NotFound: there is no user of that name.
            Conflict: it is ``admin``, or the last administrator who can log in.
        """
        if username == ADMIN:
            raise Conflict("The user admin is made again at each start; disable it instead.")

        async def change(session: AsyncSession, user: UserRow, at: datetime) -> dict[str, Any]:
            await _keep_an_administrator(session, user)
            ended = await revocations.end_logins_of_user(session, user.id, at)
            await users.delete_user(session, user.id)
            await ANSWERS.remove_telling_of(session, "id", user.id)
            return {"ended": ended, "username": user.username}

        return await self._change(actor, username, "user_deleted", change)

    async def _change(
        self,
        actor: Actor,
        username: str,
        event: Event,
        change: Callable[[AsyncSession, UserRow, datetime], Awaitable[dict[str, Any] | None]],
        once: Once | None = None,
    ) -> UserView:
        """Change a user in one unit of work; ``change`` says what the audit trail tells, None for no change."""
        at = now()

        async def unit(transaction: Transaction) -> UserView:
            session = transaction.session
            before = await _find(session, username)
            told = await change(session, before, at)
            if told is not None:
                self._record(session, event, actor, before.id, **told)
            return _view(await users.find_user_row(session, username) or before)

        user = await write_once(self._database, once, actor, (event, username), unit, UserView)
        self._ended.note()
        return user

    def _record(self, session: AsyncSession, event: Event, actor: Actor, user_id: str, **data: Any) -> None:
        self._audit.record(session, event, actor.origin, user_id=user_id, client_id=None, **actor.said, **data)

    async def _hash(self, password: str | None, *names: str) -> tuple[str | None, str]:
        made = secrets.token_urlsafe(18) if password is None else None
        chosen = made or password or ""
        check_password(chosen, *names)
        return made, await self._passwords.hash(chosen)


async def _find(session: AsyncSession, username: str) -> UserRow:
    user = await users.find_user_row(session, username)
    if user is None:
        raise NotFound(f"There is no user {username!r}.")
    return user


async def _keep_an_administrator(session: AsyncSession, user: UserRow) -> None:
    if user.is_admin and user.is_active and not await users.has_other_administrator(session, user.id):
        raise Conflict(f"{user.username!r} is the last administrator who can log in; make another one first.")


def _view(row: UserRow) -> UserView:
    return UserView(**row._asdict())
