"""What a new installation begins with: the user ``admin``, and the clients that everybody has."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
from typing import TYPE_CHECKING, Any

from codelab.auth.policy import WeakPassword, check_password
from codelab.auth.repository import clients, users
from codelab.db import new_id, now
from codelab.errors import StartError
from codelab.key_file import write_private_file

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.auth.passwords import Passwords
    from codelab.db import Database, Transaction
    from codelab.settings import AuthSettings

__all__ = ("ADMIN", "CLIENT_ID", "DEVICE_CODE", "TERMINAL_CLIENT_ID", "plant")

ADMIN = "admin"
ADMIN_EMAIL = "admin@codelab.local"
CLIENT_ID = "codelab-flutter-app"
TERMINAL_CLIENT_ID = "codelab-cli"
#: The ``grant_type`` of RFC 8628 section 3.4.
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
PASSWORD_FILE = "admin-password.txt"
_SCOPES = "api:read api:write approvals:decide"
_CLIENTS: dict[str, dict[str, Any]] = {
    CLIENT_ID: {
        "name": "CodeLab Flutter App",
        "description": "The reference system's IDE, which asks for passwords itself",
        "allowed_scopes": _SCOPES,
        "default_scopes": _SCOPES,
        "allowed_grant_types": ["password", "refresh_token"],
        "redirect_uris": [],
    },
    TERMINAL_CLIENT_ID: {
        "name": "codelab chat",
        "description": "The terminal client; any program on a person's own machine may say that it is this one",
        "allowed_scopes": f"openid profile email offline_access {_SCOPES} api:admin",
        "default_scopes": _SCOPES,
        "allowed_grant_types": ["authorization_code", DEVICE_CODE, "refresh_token"],
        "redirect_uris": [f"http://{host}/callback" for host in ("127.0.0.1", "[::1]", "localhost")],
    },
}

logger = logging.getLogger(__name__)


async def plant(database: Database, passwords: Passwords, settings: AuthSettings) -> None:
    """Make the first user and client where they are absent; safe with many starters.

    Raises:
        StartError: the first password cannot be used or kept.
    """
    async with database.read() as session:
        admin = await users.find_user(session, ADMIN)
    password = _first_password(settings) if admin is None else None
    password_hash = await passwords.hash(password) if password else None
    generated = password if password and not settings.master_key else None
    place = _password_place(database, settings) if generated and not sys.stderr.isatty() else None
    # Written before the commit under a name of its own: a crash must not leave a password that nobody knows.
    draft = _write_draft(place, generated) if place and generated else None
    try:
        made = await database.write(lambda transaction: _plant(transaction, settings, password_hash))
        if made and draft and place:
            draft.replace(place)
            logger.warning("The user admin was made; the first password is in the file %s. Change it.", place)
        elif made and generated:
            sys.stderr.write(f"\nThe user admin was made. Its password, shown only this once: {generated}\n\n")
            sys.stderr.flush()
        elif made:
            logger.info("The user admin was made with the password of AUTH_SERVICE__MASTER_KEY.")
    finally:
        if draft:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


async def _plant(transaction: Transaction, settings: AuthSettings, password_hash: str | None) -> bool:
    session, at = transaction.session, now()
    made = password_hash is not None and await users.insert_user_if_absent(
        session,
        id=new_id(),
        username=ADMIN,
        email=ADMIN_EMAIL,
        password_hash=password_hash,
        is_active=True,
        is_verified=True,
        is_admin=True,
        created_at=at,
        updated_at=at,
    )
    access, refresh = settings.access_token_lifetime, settings.refresh_token_lifetime
    for client_id, values in _CLIENTS.items():
        await clients.insert_client_if_absent(
            session,
            id=new_id(),
            client_id=client_id,
            is_confidential=False,
            access_token_lifetime=access,
            refresh_token_lifetime=refresh,
            is_active=True,
            created_at=at,
            updated_at=at,
            **values,
        )
        # The lifetimes come from the environment, also after the first start.
        await clients.set_client_lifetimes(session, client_id, access=access, refresh=refresh)
    return made


def _first_password(settings: AuthSettings) -> str:
    if settings.master_key is None:
        return secrets.token_urlsafe(18)
    password = settings.master_key
    try:
        check_password(password, ADMIN, ADMIN_EMAIL)
    except WeakPassword as weak:
        raise StartError(f"AUTH_SERVICE__MASTER_KEY: {weak.reason}. It is the first password of {ADMIN}.") from None
    return password


def _password_place(database: Database, settings: AuthSettings) -> Path:
    beside = database.url.path or settings.key_encryption_key_file
    return beside.absolute().with_name(PASSWORD_FILE)


def _write_draft(place: Path, password: str) -> Path:
    draft = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_private_file(draft, password + "\n")
    except OSError as error:
        raise StartError(f"{place}: the first password of admin cannot be written there: {error.strerror}.") from None
    return draft
