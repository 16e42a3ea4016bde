"""The keys that sign access tokens: ES256 (RFC 7518), kept in the database, encrypted with a key that is not in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey

from codelab.auth.repository import keys
from codelab.auth.repository.common import lock
from codelab.db import now
from codelab.key_file import open_key_file, read_key_file, write_private_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codelab.auth.repository.keys import KeyRecord
    from codelab.db import Database, Transaction

__all__ = ("ALGORITHM", "JWE_ALGORITHMS", "KeyRing", "open_key_file", "read_key_file", "write_private_file")

ALGORITHM = "ES256"
JWE_ALGORITHMS = ("dir", "A256GCM")

logger = logging.getLogger(__name__)


class KeyRing:
    """Hold the signing keys of this server, parsed once."""

    def __init__(self, database: Database, key_file: Path) -> None:
        self._database = database
        self._key_file = key_file
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

    async def load(self) -> None:
        """Read the keys; make one when there is none that the key file can decrypt.

        Raises:
            StartError: the key file can be neither read nor made.
        """
        wrapping = open_key_file(self._key_file)
        made: list[str] = []
        ended: list[str] = []

        async def unit(transaction: Transaction) -> Sequence[KeyRecord]:
            # Many starters may come here at once: the lock makes the later ones find the key of the first.
            session, at = transaction.session, now()
            await lock(session, "codelab.auth.signing_keys")
            made.clear()
            ended.clear()
            records = await keys.list_signing_keys(session, at, ALGORITHM)
            usable = {record.kid for record in records if _unwrap(record, wrapping) is not None}
            if any(record.kid in usable and record.retired_at is None for record in records):
                return records
            ended.extend(record.kid for record in records if record.kid not in usable)
            if ended:
                await keys.retire_signing_keys(session, ended, at, expires_at=at)
            key = ECKey.generate_key("P-256")
            kid = key.thumbprint()
            await keys.insert_signing_key(
                session,
                kid=kid,
                alg=ALGORITHM,
                public_jwk=_public_jwk(key, kid),
                private_jwe=_wrap(key, kid, wrapping),
                created_at=at,
            )
            made.append(kid)
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
        self._use(records, wrapping)

    def _use(self, records: Sequence[KeyRecord], wrapping: OctKey) -> None:
        # A public key counts only when its private part was encrypted with our key file: whoever can write into the
        # table cannot make the server trust a key of their own.
        keys = [(record, key) for record in records if (key := _unwrap(record, wrapping))]
        self._signing = next((record.kid, key) for record, key in keys if record.retired_at is None)
        self._jwks = [_public_jwk(key, record.kid) for record, key in keys]
        self._public = {jwk["kid"]: ECKey.import_key(jwk) for jwk in self._jwks}


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
