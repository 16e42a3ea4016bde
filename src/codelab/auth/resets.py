"""New passwords by a link that an administrator makes, good once and for a day."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from codelab.auth.policy import check_password
from codelab.auth.repository import accounts, resets, users
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit
    from codelab.auth.passwords import Passwords
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction

__all__ = ("LIFETIME", "RESET", "Resets", "create_reset")

LIFETIME = timedelta(days=1)
RESET = "/oauth/reset"


async def create_reset(session: AsyncSession, user_id: str, issuer: str) -> str:
    """Return the URL of the page on which a person chooses a new password; earlier links of theirs end.

    Whoever calls this writes the audit trail, in the same transaction.
    """
    token, at = new_refresh_token(), now()
    await resets.delete_resets(session, user_id)
    await resets.insert_reset(
        session, id=new_id(), token_hash=hash_token(token), user_id=user_id, created_at=at, expires_at=at + LIFETIME
    )
    return f"{issuer.rstrip('/')}{RESET}?token={token}"


class Resets:
    """Let people choose a new password with a link."""

    def __init__(self, database: Database, passwords: Passwords, audit: Audit, ended: Revocations) -> None:
        self._database = database
        self._passwords = passwords
        self._audit = audit
        self._ended = ended

    async def find(self, token: str) -> UserRecord | None:
        """Return whose link this is; None when it was used, is too old, or never was one."""
        async with self._database.read() as session:
            user_id = await resets.find_reset(session, hash_token(token), now())
            user = await users.find_user_by_id(session, user_id) if user_id else None
        return user if user is not None and user.is_active else None

    async def use(self, token: str, password: str, origin: Origin) -> bool:
        """Set the password and end all logins of its person; False when the link is not good (any more).

        Raises:
            WeakPassword: the password cannot be used; the link can be used again.
            Unavailable: too many logins wait, or the server is stopping.
        """
        user = await self.find(token)
        if user is None:
            return False
        check_password(password, user.username, user.email)
        new_hash, at = await self._passwords.hash(password), now()

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            if not await resets.use_reset(session, hash_token(token), at):
                return False
            await accounts.set_password(session, user.id, new_hash, at)
            await accounts.end_everything(session, user.id, at)
            await resets.delete_resets(session, user.id)
            self._audit.record(session, "password_reset", origin, user_id=user.id, client_id=None)
            return True

        used = await self._database.write(unit)
        self._ended.note()
        return used
