"""The keys that sign access tokens: ES256 (RFC 7518), kept in the database, encrypted with a key that is not in it."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from codelab.auth.repository import keys
from codelab.auth.repository.common import lock
from codelab.auth.schemas import Origin
from codelab.db import now
from codelab.errors import StartError
from codelab.key_file import open_key_file, read_key_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from joserfc.jwk import OctKey
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit, Event
    from codelab.auth.repository.keys import KeyRecord
    from codelab.db import Database, Transaction

__all__ = ("ALGORITHM", "JWE_ALGORITHMS", "KeyRing", "make_key")

ALGORITHM = "ES256"
JWE_ALGORITHMS = ("dir", "A256GCM")
_LOCK = "codelab.auth.signing_keys"
#: How much longer than its tokens a key is published: a server goes on signing with it until it has heard of the next.
SLACK = timedelta(seconds=60)

logger = logging.getLogger(__name__)


class KeyRing:
    """Hold the signing keys of this server, each parsed once, and follow what other processes do with them.

    ``max_age`` is when the key that signs is followed by a new one; None is never.
    """

    def __init__(self, database: Database, key_file: Path, audit: Audit, max_age: timedelta | None) -> None:
        self._database = database
        self._key_file = key_file
        self._audit = audit
        self._max_age = max_age
        self._wrapping: OctKey | None = None
        self._known: Sequence[KeyRecord] = ()
        self._parsed: dict[tuple[str, str], ECKey] = {}
        self._signing: tuple[str, ECKey] | None = None
        self._public: dict[str, ECKey] = {}
        self._jwks: list[dict[str, Any]] = []

    @property
    def signing(self) -> tuple[str, ECKey]:
        """The key that signs now, after its id."""
        if self._signing is None:
            raise RuntimeError("the signing keys are not loaded")
        return self._signing

    @property
    def loaded(self) -> bool:
        """Whether tokens can be signed."""
        return self._signing is not None

    def find(self, kid: object) -> ECKey | None:
        """Find the public key with this id."""
        return self._public.get(kid) if isinstance(kid, str) else None

    def public_set(self) -> dict[str, Any]:
        """Show the public keys as a JWK Set (RFC 7517 section 5)."""
        return {"keys": self._jwks}

    async def check_file(self) -> None:
        """Refuse a key file that is not the one of this database; where there are no keys yet, any will do.

        Raises:
            StartError: the file cannot be read, or decrypts none of the keys.
        """
        async with self._database.read() as session:
            records = await keys.list_signing_keys(session, now(), ALGORITHM)
        wrapping = read_key_file(self._key_file)
        if records and (wrapping is None or all(_unwrap(record, wrapping) is None for record in records)):
            raise StartError(
                f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {self._key_file} does not hold the key of this database; "
                "run the command where the server runs, with its settings."
            )

    async def load(self) -> None:
        """Read the keys; make one when there is none that the key file can decrypt. The audit trail is open by then.

        Raises:
            StartError: the key file can be neither read nor made.
        """
        wrapping = self._open()
        made: list[str] = []
        ended: list[str] = []

        async def unit(transaction: Transaction) -> Sequence[KeyRecord]:
            # Many starters may come here at once: the lock makes the later ones find the key of the first.
            session, at = transaction.session, now()
            await lock(session, _LOCK)
            made.clear()
            ended.clear()
            records = await keys.list_signing_keys(session, at, ALGORITHM)
            usable = {record.kid for record in records if _unwrap(record, wrapping) is not None}
            if any(record.kid in usable and record.retired_at is None for record in records):
                return records
            ended.extend(record.kid for record in records if record.kid not in usable)
            if ended:
                await keys.retire_signing_keys(session, ended, at, expires_at=at)
            made.append(await _insert_key(session, wrapping, at))
            if ended:  # the first key of an installation is no change of one
                reason = "the key file does not decrypt the keys before"
                self._record(session, "key_made", Origin(), kid=made[0], by="codelab", reason=reason)
            return await keys.list_signing_keys(session, at, ALGORITHM)

        records = await self._database.write(unit)
        if ended:
            logger.error(
                "The signing keys in the database cannot be decrypted with %s (was it lost or exchanged?). "
                "A new signing key was made; access tokens issued until now are refused.",
                self._key_file,
            )
        for kid in made:
            logger.info("Signing key made: %s", kid)
        self._use(records)

    async def refresh(self) -> None:
        """Take over what has become of the keys in the database, and follow one that has become too old."""
        async with self._database.peek() as session:
            records = await keys.list_signing_keys(session, now(), ALGORITHM)
        if records != self._known:
            self._use(records)
        newest = max((record.created_at for record in records if record.retired_at is None), default=None)
        if self._max_age is not None and newest is not None and now() - newest > self._max_age:
            await self.rotate(Origin(), by="codelab", reason="age", older_than=self._max_age)

    async def rotate(self, origin: Origin, *, older_than: timedelta | None = None, **said: Any) -> str:
        """Make a new key, which signs from now on, and return its id.

        The keys before it are published until the last token that they may have signed has expired. With
        ``older_than`` nothing is done when another process was quicker.

        Raises:
            StartError: the key file cannot be used.
        """
        kid = await self._database.write(self.successor(origin, older_than=older_than, **said))
        await self.reload()
        return kid

    def successor(
        self, origin: Origin, *, older_than: timedelta | None = None, **said: Any
    ) -> Callable[[Transaction], Awaitable[str]]:
        """Return the unit of work of ``rotate``, after which ``reload`` is due.

        Raises:
            StartError: the key file cannot be used.
        """
        wrapping = self._open()

        async def unit(transaction: Transaction) -> str:
            session, at = transaction.session, now()
            await lock(session, _LOCK)
            records = await keys.list_signing_keys(session, at, ALGORITHM)
            before = [record for record in records if record.retired_at is None]
            if older_than is not None and before and at - before[0].created_at <= older_than:
                return before[0].kid
            lifetime = timedelta(seconds=await keys.longest_lifetime(session))
            kids = [record.kid for record in before]
            await keys.retire_signing_keys(session, kids, at, expires_at=at + lifetime + SLACK)
            kid = await _insert_key(session, wrapping, at)
            self._record(session, "key_made", origin, kid=kid, **said)
            transaction.after_commit(partial(logger.info, "Signing key made: %s", kid))
            return kid

        return unit

    async def reload(self) -> None:
        """Take over the keys that are published now."""
        async with self._database.read() as session:
            self._use(await keys.list_signing_keys(session, now(), ALGORITHM))

    def _open(self) -> OctKey:
        if self._wrapping is None:
            self._wrapping = open_key_file(self._key_file)
        return self._wrapping

    def _record(self, session: AsyncSession, event: Event, origin: Origin, **data: Any) -> None:
        self._audit.record(session, event, origin, user_id=None, client_id=None, **data)

    def _use(self, records: Sequence[KeyRecord]) -> None:
        # A public key counts only when its private part was encrypted with our key file: whoever can write into the
        # table cannot make the server trust a key of their own.
        wrapping = self._open()
        before, self._parsed, self._known = self._parsed, {}, records
        held: list[tuple[KeyRecord, ECKey]] = []
        for record in records:
            name = (record.kid, record.private_jwe)
            if (key := before.get(name) or _unwrap(record, wrapping)) is not None:
                self._parsed[name] = key
                held.append((record, key))
        signing = next(((record.kid, key) for record, key in held if record.retired_at is None), None)
        if signing is None and self._signing is not None:
            logger.error("No signing key in the database can be used; the one that signed until now goes on.")
            return
        self._signing = signing
        self._jwks = [_public_jwk(key, record.kid) for record, key in held]
        self._public = {jwk["kid"]: ECKey.import_key(jwk) for jwk in self._jwks}


def make_key() -> ECKey:
    """Make a key whose thumbprint can be given to a command: none that looks like an option."""
    while (key := ECKey.generate_key("P-256")).thumbprint().startswith("-"):
        pass
    return key


async def _insert_key(session: AsyncSession, wrapping: OctKey, at: datetime) -> str:
    key = make_key()
    kid = key.thumbprint()
    await keys.insert_signing_key(
        session,
        kid=kid,
        alg=ALGORITHM,
        public_jwk=_public_jwk(key, kid),
        private_jwe=_wrap(key, kid, wrapping),
        created_at=at,
    )
    return kid


def _public_jwk(key: ECKey, kid: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}


def _wrap(key: ECKey, kid: str, wrapping: OctKey) -> str:
    header = {"alg": "dir", "enc": "A256GCM", "kid": kid}
    plaintext = msgspec.json.encode({**key.as_dict(private=True), "kid": kid})
    return jwe.encrypt_compact(header, plaintext, wrapping, algorithms=JWE_ALGORITHMS)


def _unwrap(record: KeyRecord, wrapping: OctKey) -> ECKey | None:
    try:
        content = jwe.decrypt_compact(record.private_jwe, wrapping, algorithms=JWE_ALGORITHMS)
        key = ECKey.import_key(msgspec.json.decode(content.plaintext or b""))
    except (JoseError, ValueError):
        return None
    return key if key.thumbprint() == record.kid else None
