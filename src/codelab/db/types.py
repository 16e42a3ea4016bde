"""Column types that keep the same value on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from advanced_alchemy.types import DateTimeUTC
from sqlalchemy import BigInteger, Integer, Text, TypeDecorator
from uuid_utils import uuid7

from codelab.text import canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = ("BigKey", "JsonText", "UtcDateTime", "new_id", "now")

#: UTC to the microsecond; a naive value is refused (SQLite would drop a zone without converting).
UtcDateTime = DateTimeUTC

#: A 64-bit key that the database counts; on SQLite only ``INTEGER`` may be the row id.
BigKey = BigInteger().with_variant(Integer(), "sqlite")


class JsonText(TypeDecorator[Any]):
    """Keep a JSON value as canonical JSON in TEXT.

    PostgreSQL's JSONB reorders keys, rewrites numbers and refuses U+0000, which would break digests.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write the value; None is NULL."""
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        """Read the value back."""
        return None if value is None else msgspec.json.decode(value)


def now() -> datetime:
    """Tell the time in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562) as text of 36 characters: unique, and sorted by time of making."""
    return str(uuid7())
