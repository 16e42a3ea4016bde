"""The hashes and MACs of a chain."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("GENESIS", "ChainKey", "checkpoint_digest", "payload_hash")

#: The MAC before the first row, and the digest before the first checkpoint.
GENESIS = "0" * 64


class ChainKey:
    """The key of one chain, derived from a secret (HKDF, RFC 5869); ``chain`` names the chain among its siblings.

    ``id`` tells keys apart and nothing about them.
    """

    def __init__(self, secret: bytes, chain: str) -> None:
        info = f"codelab chain {chain}".encode()
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
        self.id = self._mac("key")[:16]

    def _mac(self, label: str, *parts: Any) -> str:
        # JSON keeps the parts apart, and the label what is meant: no MAC can stand for another.
        return hmac.new(self._key, canonical_json([label, *parts]).encode(), "sha256").hexdigest()

    def row(self, previous: str, seq: int, hashed: str) -> str:
        """Make the MAC of a row after the MAC of the one before it."""
        return self._mac("row", previous, seq, hashed)

    def erasure(self, seq: int, hashed: str, rest: Mapping[str, Any]) -> str:
        """Make the MAC of a row whose payload was erased; ``rest`` is what stays of it."""
        return self._mac("erased", seq, hashed, payload_hash(rest))

    def checkpoint(self, before: str, content: Mapping[str, Any]) -> str:
        """Make the MAC of a checkpoint; ``before`` is the digest of all that are before it."""
        return self._mac("checkpoint", before, content)

    def head(self, seq: int, mac: str, checkpoints: str) -> str:
        """Make the MAC of the head, so that nobody can set it back to an earlier row."""
        return self._mac("head", seq, mac, checkpoints)


def payload_hash(payload: Mapping[str, Any]) -> str:
    """Hash what a row records: SHA-256, in hex, of its canonical JSON without the members that are null.

    So a column that is added later changes no hash of the rows that lack it.
    """
    kept = {name: value for name, value in payload.items() if value is not None}
    return hashlib.sha256(canonical_json(kept).encode()).hexdigest()


def checkpoint_digest(before: str, content: Mapping[str, Any], proof: str) -> str:
    """Hash a checkpoint together with all that are before it."""
    return hashlib.sha256(canonical_json([before, content, proof]).encode()).hexdigest()
