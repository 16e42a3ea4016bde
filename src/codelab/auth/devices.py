"""Devices that somebody lets in with another one (RFC 8628): their codes, and the person's decision."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from codelab.auth.clients import check_grant, grant_scope
from codelab.auth.errors import OAuthError
from codelab.auth.forms import read_client_credentials
from codelab.auth.repository import devices
from codelab.auth.repository.browsers import count_wrong_code
from codelab.auth.scopes import within_rights
from codelab.auth.seeds import DEVICE_CODE
from codelab.auth.throttle import FIRST_WAIT, Throttled
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.clients import KnownClients
    from codelab.auth.refusals import Refusals
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.repository.devices import WaitingDevice
    from codelab.auth.resources import Audiences
    from codelab.auth.schemas import Origin
    from codelab.auth.throttle import Throttle
    from codelab.db import Database, Transaction

__all__ = ("LETTERS", "Devices", "Found", "read_user_code")

LIFETIME = timedelta(minutes=10)
#: Seconds between two questions of a device.
INTERVAL = 5
#: No vowels, so that no words come out, and nothing that looks like something else (RFC 8628 section 6.1).
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH = 8
#: Wrong codes that one sign-in may try: with 20^8 codes, guessing is hopeless (section 5.1).
MOST_WRONG = 10
#: Devices that may wait at one address.
MOST_WAITING = 50


def read_user_code(shown: str) -> str | None:
    """Read a code as people type it, with or without the hyphen and capitals; None when it cannot be one."""
    code = "".join(letter for letter in shown.upper() if letter.isalnum())
    return code if len(code) == LENGTH and set(code) <= set(LETTERS) else None


class Found(NamedTuple):
    """What is behind a code that a person typed; after too many wrong ones they have to ``wait`` so many seconds."""

    device: WaitingDevice | None
    wait: int = 0


class Devices:
    """Give devices their codes, and let people decide about them; ``page`` is the URL where they do."""

    def __init__(
        self,
        database: Database,
        clients: KnownClients,
        audit: Audit,
        refusals: Refusals,
        audiences: Audiences,
        throttle: Throttle,
        page: str,
    ) -> None:
        self._database = database
        self._clients = clients
        self._audit = audit
        self._refusals = refusals
        self._audiences = audiences
        self._throttle = throttle
        self._page = page

    async def begin(self, fields: dict[str, str], authorization: str | None, origin: Origin) -> dict[str, Any]:
        """Answer a device authorization request (section 3.1).

        Raises:
            OAuthError: the request is refused, or too many devices wait at this address.
        """
        credentials = read_client_credentials(fields, authorization)
        async with self._refusals.recorded(credentials.client_id, origin):
            client = await self._clients.authenticate(credentials)
        check_grant(client, DEVICE_CODE)
        scope = grant_scope(client, fields.get("scope"))
        resource = self._audiences.check(fields.get("resource"))
        device_code, at = new_refresh_token(), now()

        async def unit(transaction: Transaction) -> str | None:
            session = transaction.session
            if await devices.count_waiting(session, origin.ip_address, at, MOST_WAITING) >= MOST_WAITING:
                return None
            while True:
                user_code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
                if await devices.insert_device(
                    session,
                    id=new_id(),
                    device_code_hash=hash_token(device_code),
                    user_code=user_code,
                    state="pending",
                    client_id=client.client_id,
                    scope=scope,
                    resource=resource,
                    interval=INTERVAL,
                    expires_at=at + LIFETIME,
                    ip_address=origin.ip_address,
                    user_agent=origin.user_agent[:512] if origin.user_agent else None,
                    created_at=at,
                ):
                    return user_code

        user_code = await self._database.write(unit)
        if user_code is None:
            wait = {"Retry-After": str(int(LIFETIME.total_seconds()))}
            raise OAuthError("Too many devices wait at this address", code="slow_down", headers=wait)
        shown = f"{user_code[:4]}-{user_code[4:]}"
        return {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": self._page,
            "verification_uri_complete": f"{self._page}?user_code={shown}",
            "expires_in": int(LIFETIME.total_seconds()),
            "interval": INTERVAL,
        }

    async def find(self, shown: str, browser: BrowserRecord, origin: Origin) -> Found:
        """Find the device that waits with a code; wrong codes count against the sign-in, the person and the address."""
        if browser.wrong_codes >= MOST_WRONG:
            # Then another sign-in may try; this one may not.
            return Found(None, wait=int(FIRST_WAIT.total_seconds()))
        try:
            return await self._find(shown, browser, origin)
        except Throttled as error:
            return Found(None, wait=error.seconds)

    async def _find(self, shown: str, browser: BrowserRecord, origin: Origin) -> Found:
        code = read_user_code(shown)
        async with self._throttle.attempt(origin.ip_address, f"device code of {browser.user_id}") as attempt:
            if code is not None:
                async with self._database.peek() as session:
                    device = await devices.find_waiting(session, code, now())
                if device is not None:
                    return Found(device)

            async def unit(transaction: Transaction) -> None:
                await count_wrong_code(transaction.session, browser.id)
                await self._throttle.note_failure(transaction.session, attempt, now())

            await self._database.write(unit)
            return Found(None)

    def scope_of(self, device: WaitingDevice, browser: BrowserRecord) -> str:
        """Return what this person can let the device do.

        Raises:
            OAuthError: nothing of what it asks for.
        """
        return within_rights(device.scope, is_admin=browser.is_admin)

    async def decide(self, device: WaitingDevice, browser: BrowserRecord, origin: Origin, *, allow: bool) -> bool:
        """Let a device in, or not; False when that was decided already, or the code expired."""
        scope = self.scope_of(device, browser) if allow else device.scope
        at = now()

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            state = "approved" if allow else "denied"
            if not await devices.decide(session, device.id, state, browser.user_id, scope, browser.auth_time, at):
                return False
            self._audit.record(
                session,
                "device_allowed" if allow else "device_denied",
                origin,
                user_id=browser.user_id,
                client_id=device.client_id,
                error=None if allow else "The person did not agree",
                scope=scope,
                device_address=device.ip_address,
            )
            return True

        return await self._database.write(unit)
