"""What people do about their own account: see where they are logged in, end that, and change their password."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.errors import WrongCredentials
from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.auth.policy import check_password
from codelab.auth.repository import accounts, personal_tokens, users
from codelab.db import now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.logins import Logins
    from codelab.auth.passwords import Passwords
    from codelab.auth.repository.accounts import AppRecord, LoginRecord, WebRecord
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.repository.personal_tokens import TokenRecord
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction

__all__ = ("FRESH", "Accounts", "Overview")

#: How long after signing in a person may make what outlives the sign-in.
FRESH = timedelta(minutes=10)


class Overview(NamedTuple):
    """All that a person sees about their account."""

    browsers: list[WebRecord]
    logins: list[LoginRecord]
    apps: list[AppRecord]
    tokens: list[TokenRecord]


class Accounts:
    """Show and change the account of who is signed in."""

    def __init__(
        self, database: Database, logins: Logins, passwords: Passwords, audit: Audit, ended: Revocations
    ) -> None:
        self._database = database
        self._logins = logins
        self._passwords = passwords
        self._audit = audit
        self._ended = ended

    async def look(self, browser: BrowserRecord) -> Overview:
        """Return what there is."""
        at = now()
        async with self._database.read() as session:
            return Overview(
                await accounts.list_browsers(session, browser.user_id, at),
                await accounts.list_logins(session, browser.user_id, at),
                await accounts.list_apps(session, browser.user_id),
                await personal_tokens.list_tokens(session, browser.user_id, at),
            )

    async def change_password(self, browser: BrowserRecord, old: str, new: str, origin: Origin) -> None:
        """Change the password and end everything but this sign-in.

        Raises:
            WrongCredentials: the old one is wrong.
            Throttled: it was wrong too often.
            WeakPassword: the new one cannot be used.
        """
        async with self._database.read() as session:
            user = await users.find_user_by_id(session, browser.user_id)
        if user is None or not old or len(old.encode()) > MAX_PASSWORD_BYTES:
            raise WrongCredentials
        check_password(new, user.username, user.email)
        new_hash = await self._passwords.hash(new)

        async def keep(session: AsyncSession, user: UserRecord, at: datetime) -> None:
            await accounts.set_password(session, user.id, new_hash, at)
            await accounts.end_everything(session, user.id, at, but=browser.id)
            self._audit.record(session, "password_changed", origin, user_id=user.id, client_id=None)

        await self._logins.log_in(user.username, old, None, origin, keep, factor_shown=True, with_browser=True)
        self._ended.note()

    async def end_browser(self, browser: BrowserRecord, browser_id: str, origin: Origin) -> None:
        """End one sign-in."""

        async def unit(transaction: Transaction) -> None:
            if await accounts.end_browser(transaction.session, browser.user_id, browser_id):
                self._audit.record(
                    transaction.session, "logout", origin, user_id=browser.user_id, client_id=None, browser=browser_id
                )

        await self._database.write(unit)

    async def end_login(self, browser: BrowserRecord, family_id: str, origin: Origin) -> None:
        """End one login of a program, with its tokens and streams."""

        async def unit(transaction: Transaction) -> None:
            if await accounts.end_login_of(transaction.session, browser.user_id, family_id, now()):
                self._audit.record(
                    transaction.session, "logout", origin, user_id=browser.user_id, client_id=None, family_id=family_id
                )

        await self._database.write(unit)
        self._ended.note()

    async def end_all(self, browser: BrowserRecord, origin: Origin) -> None:
        """End everything but this sign-in."""

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            await accounts.end_everything(session, browser.user_id, now(), but=browser.id)
            self._audit.record(session, "logout", origin, user_id=browser.user_id, client_id=None, everywhere=True)

        await self._database.write(unit)
        self._ended.note()

    async def remove_app(self, browser: BrowserRecord, client_id: str, origin: Origin) -> None:
        """Take back what a program was allowed, and end its logins."""

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            if await accounts.delete_consent(session, browser.user_id, client_id):
                await accounts.end_logins_of_client(session, browser.user_id, client_id, now())
                self._audit.record(session, "consent_removed", origin, user_id=browser.user_id, client_id=client_id)

        await self._database.write(unit)
        self._ended.note()
