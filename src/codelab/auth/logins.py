"""Logging in with a name and a password, for whatever comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.repository import factors, users
from codelab.db import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.passwords import Passwords
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.schemas import Origin
    from codelab.auth.throttle import Attempt, Throttle
    from codelab.db import Database, Transaction

__all__ = ("Logins", "SecondFactorNeeded")

T = TypeVar("T")


class SecondFactorNeeded(OAuthError):
    """Tell that the password was right and a code has to be shown too, which only the pages ask for."""

    code = "invalid_grant"

    def __init__(self, user: UserRecord) -> None:
        super().__init__("This account has a second factor; log in with a browser")
        self.user = user


class Logins:
    """Prove people by name and password."""

    def __init__(self, database: Database, passwords: Passwords, audit: Audit, throttle: Throttle) -> None:
        self._database = database
        self._passwords = passwords
        self._audit = audit
        self._throttle = throttle

    async def log_in(
        self,
        login: str,
        password: str,
        client_id: str | None,
        origin: Origin,
        keep: Callable[[AsyncSession, UserRecord, datetime], Awaitable[T]],
        *,
        factor_shown: bool = False,
        **data: Any,
    ) -> T:
        """Compare a password, then note the login and ``keep`` what comes of it, in one transaction; return that.

        ``factor_shown`` says that the person showed their second factor earlier. ``data`` is what the audit trail says
        beside.

        Raises:
            WrongCredentials: nobody has this name and password, or they are disabled; which is not told.
            Throttled: too many were wrong, of this address about this name.
            SecondFactorNeeded: the password is not enough; nothing is noted or kept.
            Unavailable: too many logins wait, or the server is stopping.
        """

        async def keep_if_enough(session: AsyncSession, user: UserRecord, at: datetime) -> T:
            factor = None if factor_shown else await factors.find_factor(session, user.id)
            if factor is not None and factor.confirmed_at is not None:
                raise SecondFactorNeeded(user)
            return await keep(session, user, at)

        async with self._throttle.attempt(origin.ip_address, login) as attempt:
            return await self._try(login, password, client_id, origin, keep_if_enough, attempt, data)

    async def _try(
        self,
        login: str,
        password: str,
        client_id: str | None,
        origin: Origin,
        keep: Callable[[AsyncSession, UserRecord, datetime], Awaitable[T]],
        attempt: Attempt,
        data: dict[str, Any],
    ) -> T:
        user, right = None, False
        # Twice: another login may have renewed the hash meanwhile, or somebody may have changed the password.
        for _ in range(2):
            async with self._database.read() as session:
                user = await users.find_user_by_login(session, login)
                with_bcrypt = await users.has_bcrypt_hashes(session)
            # No transaction is open while argon2 runs. Nobody can tell from the time whether the name exists.
            stored = user.password_hash if user else None
            right, new_hash = await self._passwords.verify(password, stored, with_bcrypt=with_bcrypt)
            if user is None or not right or not user.is_active:
                break
            kept = await self._keep(user, new_hash, client_id, origin, keep, attempt, data)
            if kept is not None:
                return kept[0]
        await self._note_failure(client_id, user, login, origin, attempt, right=right)
        raise WrongCredentials

    async def _keep(
        self,
        user: UserRecord,
        new_hash: str | None,
        client_id: str | None,
        origin: Origin,
        keep: Callable[[AsyncSession, UserRecord, datetime], Awaitable[T]],
        attempt: Attempt,
        data: dict[str, Any],
    ) -> tuple[T] | None:
        """Keep a login; None when the user is not any more what the password was compared with."""
        at = now()

        async def unit(transaction: Transaction) -> tuple[T] | None:
            session = transaction.session
            if not await users.record_login(session, user, at, new_hash):
                return None
            kept = await keep(session, user, at)
            await self._throttle.note_success(session, attempt)
            self._audit.record(session, "login_success", origin, user_id=user.id, client_id=client_id, **data)
            return (kept,)

        return await self._database.write(unit)

    async def _note_failure(
        self,
        client_id: str | None,
        user: UserRecord | None,
        login: str,
        origin: Origin,
        attempt: Attempt,
        *,
        right: bool,
    ) -> None:
        reason = "unknown_user" if user is None else "disabled_or_changed" if right else "wrong_password"

        async def unit(transaction: Transaction) -> None:
            self._audit.record(
                transaction.session,
                "login_failed",
                origin,
                user_id=user.id if user else None,
                client_id=client_id,
                error="Invalid username or password",
                username=login,
                reason=reason,
            )
            if await self._throttle.note_failure(transaction.session, attempt, now()):
                self._audit.record(
                    transaction.session,
                    "login_throttled",
                    origin,
                    user_id=user.id if user else None,
                    client_id=client_id,
                    error="Too many failures",
                    username=login,
                )

        await self._database.write(unit)
