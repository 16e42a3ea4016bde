"""The device grant (RFC 8628 section 3.4): a device asks until somebody has decided."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from codelab.auth.errors import OAuthError
from codelab.auth.forms import require
from codelab.auth.grants.issuing import Granted, refuse_grant
from codelab.auth.repository import devices
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import now

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.grants.issuing import Issuing
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.schemas import Origin, TokenAnswer
    from codelab.db import Database, Transaction

__all__ = ("DeviceGrant",)

#: Seconds that a device which asks too early has to wait longer from then on (section 3.5).
SLOWER = 5
_REFUSALS = {
    "authorization_pending": "Nobody has decided yet",
    "slow_down": "The device asks too often",
    "access_denied": "The person did not agree",
    "expired_token": "The code has expired",
    "invalid_grant": "Invalid device code",
}


class DeviceGrant:
    """Exchange a device code for tokens, once somebody let the device in."""

    def __init__(self, database: Database, audit: Audit, issuing: Issuing) -> None:
        self._database = database
        self._audit = audit
        self._issuing = issuing

    async def __call__(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        """Answer one question.

        Raises:
            OAuthError: the request is refused, or nobody has decided yet (``authorization_pending``).
        """
        (shown,) = require(fields, "device_code")
        resource = self._issuing.audiences.check(fields.get("resource"))
        refresh_token = new_refresh_token() if "refresh_token" in client.allowed_grant_types else None
        at = now()

        async def unit(transaction: Transaction) -> Granted | str:
            session = transaction.session
            device = await devices.find_device(session, hash_token(shown))
            # Another client's code is unknown to this one, so that it learns nothing and harms nobody.
            if device is None or device.client_id != client.client_id:
                return "invalid_grant"
            if device.state == "denied":
                return "access_denied"
            if device.state != "used" and device.expires_at <= at:
                return "expired_token"
            if device.state == "pending":
                early = device.asked_at is not None and at - device.asked_at < timedelta(seconds=device.interval)
                await devices.note_question(session, device.id, at, device.interval + SLOWER * early)
                return "slow_down" if early else "authorization_pending"
            if device.user_id is None or not await devices.use_device(session, device.id):
                return "invalid_grant"
            granted = Granted(
                user_id=device.user_id,
                scope=device.scope,
                resource=device.resource or resource,
                auth_time=device.auth_time,
            )
            await self._issuing.keep(session, client, granted, at, refresh_token)
            self._audit.record(
                session,
                "device_login",
                origin,
                user_id=device.user_id,
                client_id=client.client_id,
                scope=device.scope,
            )
            return granted

        granted = await self._database.write(unit)
        if granted == "invalid_grant":
            raise refuse_grant(_REFUSALS["invalid_grant"])
        if isinstance(granted, str):
            raise OAuthError(_REFUSALS[granted], code=granted)
        return self._issuing.tell(client, granted, refresh_token)
