"""Encryption of what servers are sent to prove who asks: with a key that is in no database."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from codelab.key_file import open_key_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("Sealer",)


class _Sealed(msgspec.Struct):
    server_id: str
    url: str
    headers: dict[str, str]


class Sealer:
    """Encrypt headers for one server and one URL (JWE, RFC 7516, A256GCM); the key comes from the key file."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    @cached_property
    def _key(self) -> OctKey:
        secret = open_key_file(self._key_file).raw_value
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"codelab agent mcp headers").derive(secret)
        return OctKey.import_key(derived)

    def seal(self, server_id: str, url: str, headers: dict[str, str]) -> str:
        """Encrypt headers."""
        content = msgspec.json.encode(_Sealed(server_id, url, headers))
        return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, content, self._key)

    def open(self, server_id: str, url: str, sealed: str) -> dict[str, str] | None:
        """Decrypt headers; None where they are not this server's, or the key file is another."""
        try:
            content = jwe.decrypt_compact(sealed, self._key).plaintext or b""
            found = msgspec.json.decode(content, type=_Sealed)
        except (JoseError, ValueError):
            return None
        return found.headers if (found.server_id, found.url) == (server_id, url) else None
