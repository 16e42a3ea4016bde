"""Refresh tokens of another system, which stay good once: JWTs (RS256) that its public key proves.

The key verifies nothing else, is not published and does not sign. It is kept like a signing key: encrypted with the key
file, so whoever can write into the table cannot make the server trust a key of their own. Access tokens of that system
are not accepted: its refresh tokens are enough to stay logged in, and they are checked against the database.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from joserfc import jwe, jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry

from codelab.auth.keys import JWE_ALGORITHMS
from codelab.auth.repository import keys
from codelab.db import now
from codelab.import_records import TokenKey
from codelab.key_file import open_key_file

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc.jwk import OctKey

    from codelab.auth.repository.keys import KeyRecord
    from codelab.db import Database

__all__ = ("ALGORITHM", "InheritedToken", "InheritedTokens", "inherited_hash", "key_id", "wrap")

ALGORITHM = "RS256"
_MAX_TOKEN_BYTES = 8192


class InheritedToken(NamedTuple):
    """What a refresh token of the other system proved; ``jti_hash`` finds its row."""

    jti_hash: str
    user_id: str


def inherited_hash(jti_hash: str) -> str:
    """Turn the other system's hash of a ``jti`` into the one that our table has.

    The first byte never occurs in UTF-8, so no text that a client sends as one of our own tokens has this hash: the
    ``jti`` alone, which is no secret, opens nothing.
    """
    return hashlib.sha256(b"\xffcodelab inherited refresh token\x00" + jti_hash.encode()).hexdigest()


def key_id(key: TokenKey) -> str:
    """Name a key with what its tokens must say."""
    return "inherited-" + hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()[:40]


def wrap(key: TokenKey, wrapping: OctKey) -> str:
    """Encrypt a key and what its tokens must say (RFC 7516) with the key of the key file."""
    header = {"alg": "dir", "enc": "A256GCM", "kid": key_id(key)}
    return jwe.encrypt_compact(header, msgspec.json.encode(key), wrapping, algorithms=JWE_ALGORITHMS)


def _unwrap(record: KeyRecord, wrapping: OctKey) -> TokenKey | None:
    try:
        content = jwe.decrypt_compact(record.private_jwe, wrapping, algorithms=JWE_ALGORITHMS)
        key = msgspec.json.decode(content.plaintext or b"", type=TokenKey)
    except (JoseError, ValueError):
        return None
    return key if key_id(key) == record.kid else None


class InheritedTokens:
    """Prove refresh tokens of another system; the keys are read once, at the start."""

    def __init__(self, database: Database, key_file: Path) -> None:
        self._database = database
        self._key_file = key_file
        self._keys: list[tuple[RSAKey, JWTClaimsRegistry]] = []

    async def load(self) -> None:
        """Read the keys that the key file proves to be ours."""
        async with self._database.read() as session:
            records = await keys.list_signing_keys(session, now(), ALGORITHM)
        self._keys = []
        if not records:
            return
        wrapping = open_key_file(self._key_file)
        for record in records:
            if (key := _unwrap(record, wrapping)) is not None:
                registry = JWTClaimsRegistry(
                    iss={"essential": True, "value": key.issuer},
                    aud={"essential": True, "value": key.audience},
                    exp={"essential": True},
                    type={"essential": True, "value": "refresh"},
                )
                self._keys.append((RSAKey.import_key(key.public_jwk), registry))

    def verify(self, token: str) -> InheritedToken | None:
        """Prove a refresh token of the other system; None for anything else."""
        if len(token) > _MAX_TOKEN_BYTES or token.count(".") != 2:
            return None
        for key, registry in self._keys:
            try:
                decoded = jwt.decode(token, key, algorithms=[ALGORITHM])
                registry.validate(decoded.claims)
            except (JoseError, ValueError, TypeError):  # joserfc's, for a header that is JSON text
                continue
            jti, subject = decoded.claims.get("jti"), decoded.claims.get("sub")
            if isinstance(jti, str) and isinstance(subject, str):
                known = hashlib.sha256(jti.encode(errors="replace")).hexdigest()
                return InheritedToken(inherited_hash(known), subject)
        return None
