"""The keys that sign access tokens: ES256 (RFC 7518), kept in the database, encrypted with a key that is not in it."""

from __future__ import annotations

import binascii
import contextlib
import logging
import os
import secrets
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey

from codelab.auth.repository import keys
from codelab.auth.repository.common import lock
from codelab.db import now
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.auth.repository.keys import KeyRecord
    from codelab.db import Database, Transaction

__all__ = ("ALGORITHM", "JWE_ALGORITHMS", "KeyRing", "open_key_file", "read_key_file", "write_private_file")

ALGORITHM = "ES256"
JWE_ALGORITHMS = ("dir", "A256GCM")
_KEY_BYTES = 32

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


def open_key_file(path: Path) -> OctKey:
    """Read the key that encrypts the signing keys; make it (mode 0600, with its folder) when it is absent.

    A file that holds no such key is put aside, so that the server can start.

    Raises:
        StartError: the file can be neither read nor made; the line names the variable.
    """
    try:
        if (key := _read_key(path)) is not None:
            return key
        if path.exists():
            aside = path.with_name(f"{path.name}.unusable-{secrets.token_hex(4)}")
            path.rename(aside)
            logger.error("%s holds no key of codelab; it was put aside as %s", path, aside)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode() + "\n"
        if write_private_file(path, content):
            logger.warning("Key file made: %s. Back it up: without it the signing keys in the database are lost.", path)
        key = _read_key(path)
    except OSError as error:
        raise StartError(
            f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} cannot be read or made: {error.strerror}."
        ) from None
    if key is None:
        raise StartError(f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} changed while it was read; start again.")
    return key


def read_key_file(path: Path) -> OctKey | None:
    """Read the key that encrypts the signing keys; None when there is no such file or no key in it.

    Raises:
        StartError: the file cannot be read.
    """
    try:
        return _read_key(path)
    except OSError as error:
        raise StartError(f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} cannot be read: {error.strerror}.") from None


def _read_key(path: Path) -> OctKey | None:
    try:
        raw = urlsafe_b64decode(path.read_bytes().strip())
    except (FileNotFoundError, binascii.Error, ValueError):
        return None
    text = urlsafe_b64encode(raw).decode().rstrip("=")
    return OctKey.import_key({"kty": "oct", "k": text}) if len(raw) == _KEY_BYTES else None


def write_private_file(path: Path, content: str) -> bool:
    """Make a file of mode 0600 with its whole content at once; False when it is there already."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            Path(name).replace(path)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
