"""What operators do with people, clients and keys: by command line beside a running server, or over REST."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.auth.audit import Audit
from codelab.auth.clients import KnownClients
from codelab.auth.keys import KeyRing
from codelab.auth.operators.clients import Clients
from codelab.auth.operators.keys import Keys
from codelab.auth.operators.trail import Trail
from codelab.auth.operators.users import Users
from codelab.auth.passwords import Passwords
from codelab.auth.revocations import Revocations
from codelab.auth.storage import SCHEMA
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codelab.settings import AuthSettings

__all__ = ("Operators", "open_operators")


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The services of operators."""

    users: Users
    clients: Clients
    keys: Keys
    trail: Trail


@asynccontextmanager
async def open_operators(settings: AuthSettings, db_wait: float) -> AsyncIterator[Operators]:
    """Open the database for a command, also beside a server that serves it.

    Raises:
        StartError: the database or the key file cannot be used.
    """
    database = Database(parse_url(settings.db_url, SCHEMA.variable), SCHEMA)
    passwords = Passwords()
    ended = Revocations(database)
    audit = Audit(database, settings.key_encryption_key_file)
    ring = KeyRing(database, settings.key_encryption_key_file, audit, settings.key_max_age)
    try:
        await database.start(db_wait)
        # First, since whoever comes with another key file must not begin a new part of the audit trail.
        await ring.check_file()
        await audit.open()
        passwords.start()
        yield Operators(
            users=Users(database, passwords, audit, ended),
            clients=Clients(database, KnownClients(database), audit, ended, settings),
            keys=Keys(database, audit, ring),
            trail=Trail(database),
        )
    finally:
        await passwords.stop()
        await database.stop()
