"""A chain over the rows of an append-only table, so that whoever changes them without the key is found out.

Each row has ``seq`` (from 1, without gaps), ``payload_hash`` (SHA-256 of the canonical JSON of what it records) and
``mac``, an HMAC over the MAC before it, ``seq`` and ``payload_hash``. Only hashes are chained: a payload can be erased
and a prefix pruned, each with a proof that the key's owner did it. What the rows record is the module's business.
"""

from __future__ import annotations

from codelab.db.chain.chain import Chain, Head
from codelab.db.chain.macs import GENESIS, ChainKey, payload_hash
from codelab.db.chain.models import ChainCheckpoint, ChainedRow, ChainHead, ChainTables

__all__ = (
    "GENESIS",
    "Chain",
    "ChainCheckpoint",
    "ChainHead",
    "ChainKey",
    "ChainTables",
    "ChainedRow",
    "Head",
    "payload_hash",
)
