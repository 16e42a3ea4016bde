"""Databases without a domain word: URL to engine, the grouping writer, column types, migrations at start."""

from __future__ import annotations

from codelab.db.database import Database
from codelab.db.engine import Limits
from codelab.db.schema import ModuleSchema
from codelab.db.types import BigKey, JsonText, UtcDateTime, make_registry, new_id, now
from codelab.db.urls import DatabaseUrl, mask_url, parse_url
from codelab.db.writer import Transaction

__all__ = (
    "BigKey",
    "Database",
    "DatabaseUrl",
    "JsonText",
    "Limits",
    "ModuleSchema",
    "Transaction",
    "UtcDateTime",
    "make_registry",
    "mask_url",
    "new_id",
    "now",
    "parse_url",
)
