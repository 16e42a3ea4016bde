"""Second factors: set up an authenticator app, and prove oneself with it or with a recovery code."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError

from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.keys import JWE_ALGORITHMS
from codelab.auth.people.totp import matching_step, new_secret
from codelab.auth.repository import factors, users
from codelab.auth.tokens import hash_token
from codelab.db import now
from codelab.key_file import open_key_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from pathlib import Path

    from joserfc.jwk import OctKey
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.schemas import Origin
    from codelab.auth.throttle import Throttle
    from codelab.db import Database, Transaction

__all__ = ("Pending", "Restart", "SecondFactors")

#: Seconds from the password to the code.
_PATIENCE = 300
_CODES = 10


class Restart(OAuthError):
    """Tell that a sign-in has to begin again, with the password."""


class Pending(NamedTuple):
    """Somebody whose password was right, and who has to show a code yet."""

    user_id: str
    password_hash: str
    until: float


class SecondFactors:
    """Keep and check second factors; ``open`` comes first, once."""

    def __init__(self, database: Database, audit: Audit, throttle: Throttle, key_file: Path) -> None:
        self._database = database
        self._audit = audit
        self._throttle = throttle
        self._key_file = key_file
        self._key: OctKey | None = None

    def open(self) -> None:
        """Read the key that encrypts the secrets.

        Raises:
            StartError: the key file can be neither read nor made.
        """
        self._key = open_key_file(self._key_file)

    async def is_on(self, user_id: str) -> bool:
        """Tell whether somebody has to show a code."""
        async with self._database.read() as session:
            found = await factors.find_factor(session, user_id)
        return found is not None and found.confirmed_at is not None

    async def begin(self, user_id: str) -> bytes:
        """Return the secret of a new factor, which counts after ``confirm``.

        Raises:
            OAuthError: there is one that counts already.
        """
        if await self.is_on(user_id):
            raise OAuthError("There is a second factor already; remove it first")
        secret = new_secret()
        sealed = self._seal("totp", {"secret": secret, "user": user_id})
        await self._database.write(lambda tx: factors.insert_factor(tx.session, user_id, sealed, now()))
        return secret

    async def secret_of(self, user_id: str) -> bytes | None:
        """Return the secret of a factor that is not confirmed yet."""
        async with self._database.read() as session:
            found = await factors.find_factor(session, user_id)
        return self._secret(found.secret_jwe, user_id) if found and found.confirmed_at is None else None

    async def confirm(self, user_id: str, code: str, origin: Origin) -> list[str] | None:
        """Let the factor count, since the app shows its codes; return the recovery codes, None for a wrong code."""
        codes = [f"{secrets.token_hex(5)}-{secrets.token_hex(5)}" for _ in range(_CODES)]

        async def unit(transaction: Transaction) -> bool:
            session, at = transaction.session, now()
            found = await factors.find_factor(session, user_id)
            if found is None or found.confirmed_at is not None or not await self._take(session, user_id, code):
                return False
            await factors.confirm_factor(session, user_id, at)
            await factors.keep_codes(session, user_id, [hash_token(_plain(each)) for each in codes])
            self._audit.record(session, "second_factor_set", origin, user_id=user_id, client_id=None)
            return True

        return codes if await self._database.write(unit) else None

    async def remove(self, user_id: str, origin: Origin) -> None:
        """Remove the factor and its recovery codes."""

        async def unit(transaction: Transaction) -> None:
            if await factors.delete_factor(transaction.session, user_id):
                self._audit.record(
                    transaction.session, "second_factor_removed", origin, user_id=user_id, client_id=None
                )

        await self._database.write(unit)

    def seal(self, user: UserRecord) -> str:
        """Write down, for nobody else to read or make, that the password was right just now."""
        return self._seal("pending", Pending(user.id, user.password_hash, time.time() + _PATIENCE)._asdict())

    async def prove(
        self,
        sealed: str,
        code: str,
        client_id: str | None,
        origin: Origin,
        keep: Callable[[AsyncSession, UserRecord, datetime], Awaitable[None]],
    ) -> None:
        """Compare a code, then note the login and ``keep`` what comes of it.

        Raises:
            Restart: the password was shown too long ago; one has to begin again.
            WrongCredentials: the code is wrong, or was used already.
            Throttled: too many were wrong.
        """
        try:
            pending = Pending(**self._open("pending", sealed))
        except (JoseError, ValueError, TypeError):
            raise Restart("The sign-in has to begin again") from None
        if pending.until < time.time():
            raise Restart("The sign-in has to begin again")
        async with self._throttle.attempt(origin.ip_address, f"second factor of {pending.user_id}") as attempt:

            async def unit(transaction: Transaction) -> bool:
                session, at = transaction.session, now()
                user = await users.find_user_by_id(session, pending.user_id)
                if user is None or user.password_hash != pending.password_hash:
                    return False
                by_code = await factors.use_code(session, user.id, hash_token(_plain(code)))
                if not by_code and not await self._take(session, user.id, code):
                    await self._throttle.note_failure(session, attempt, at)
                    self._audit.record(
                        session,
                        "login_failed",
                        origin,
                        user_id=user.id,
                        client_id=client_id,
                        error="Wrong second factor",
                        reason="wrong_second_factor",
                    )
                    return False
                if not await users.record_login(session, user, at, None):
                    return False
                await self._throttle.note_success(session, attempt)
                await keep(session, user, at)
                self._audit.record(
                    session,
                    "login_success",
                    origin,
                    user_id=user.id,
                    client_id=client_id,
                    with_browser=True,
                    second_factor="recovery_code" if by_code else "totp",
                )
                return True

            if not await self._database.write(unit):
                raise WrongCredentials

    async def _take(self, session: AsyncSession, user_id: str, code: str) -> bool:
        found = await factors.find_factor(session, user_id)
        secret = self._secret(found.secret_jwe, user_id) if found else None
        step = matching_step(secret, "".join(code.split()), time.time()) if secret else None
        return bool(found and step and await factors.use_step(session, user_id, found.secret_jwe, step))

    def _secret(self, sealed: str, user_id: str) -> bytes | None:
        try:
            content = msgspec.convert(self._open("totp", sealed), _Secret, strict=False)
        except (JoseError, ValueError):
            return None  # another key file: recovery codes still count
        return content.secret if content.user == user_id else None

    def _seal(self, kind: str, content: dict[str, Any]) -> str:
        assert self._key is not None
        header = {"alg": "dir", "enc": "A256GCM", "typ": f"codelab-{kind}"}
        return jwe.encrypt_compact(header, msgspec.json.encode(content), self._key, algorithms=JWE_ALGORITHMS)

    def _open(self, kind: str, sealed: str) -> dict[str, Any]:
        assert self._key is not None
        found = jwe.decrypt_compact(sealed, self._key, algorithms=JWE_ALGORITHMS)
        if found.protected.get("typ") != f"codelab-{kind}":
            raise ValueError("sealed for something else")
        return msgspec.json.decode(found.plaintext or b"", type=dict[str, Any])


class _Secret(msgspec.Struct):
    secret: bytes
    user: str


def _plain(code: str) -> str:
    return "".join(letter for letter in code.lower() if letter.isalnum())
