"""The password grant (RFC 6749 section 4.3), for the reference system's clients; it can be switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.auth.clients import grant_scope
from codelab.auth.errors import OAuthError
from codelab.auth.forms import require
from codelab.auth.grants.issuing import Granted, refuse_grant
from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.auth.repository.clients import find_active_clients
from codelab.auth.scopes import within_rights
from codelab.auth.tokens import new_refresh_token

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.grants.issuing import Issuing
    from codelab.auth.logins import Logins
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.repository.users import UserRecord
    from codelab.auth.schemas import Origin, TokenAnswer

__all__ = ("PasswordGrant",)


class PasswordGrant:
    """Exchange a name and a password for tokens."""

    def __init__(self, logins: Logins, issuing: Issuing) -> None:
        self._logins = logins
        self._issuing = issuing

    async def __call__(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        """Answer one request.

        Raises:
            OAuthError: the request is refused.
            WrongCredentials: nobody has this name and password.
        """
        login, password = require(fields, "username", "password")
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            raise OAuthError(f"password: must be at most {MAX_PASSWORD_BYTES} bytes", field="password")
        scope = grant_scope(client, fields.get("scope"))
        resource = self._issuing.audiences.check(fields.get("resource"))
        refresh_token = new_refresh_token() if "refresh_token" in client.allowed_grant_types else None

        async def keep(session: AsyncSession, user: UserRecord, at: datetime) -> Granted:
            # What ended the client's logins meanwhile did not see this one.
            if not await find_active_clients(session, [client.client_id]):
                raise refuse_grant("The client is disabled")
            allowed = within_rights(scope, is_admin=user.is_admin)
            granted = Granted(user_id=user.id, scope=allowed, resource=resource, auth_time=at)
            await self._issuing.keep(session, client, granted, at, refresh_token)
            return granted

        granted = await self._logins.log_in(login, password, client.client_id, origin, keep, scope=scope)
        return self._issuing.tell(client, granted, refresh_token)
