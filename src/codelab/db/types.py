"""Column types that keep the same value on SQLite and PostgreSQL, and the registry of a module's tables.

Those of advanced-alchemy would do as well, but to import one imports Litestar: a third of a second for each command.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, DateTime, Integer, MetaData, Text, TypeDecorator
from sqlalchemy.orm import registry
from uuid_utils import uuid7

from codelab.text import canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = ("BigKey", "JsonText", "UtcDateTime", "make_registry", "new_id", "now")

#: A 64-bit key that the database counts; on SQLite only ``INTEGER`` may be the row id.
BigKey = BigInteger().with_variant(Integer(), "sqlite")


#: Constraints are found by name when a migration changes them, so each has one.
_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Keep an instant in UTC, to the microsecond.

    A naive value is refused with ``TypeError``: SQLite would drop a zone without converting.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write the instant; None is NULL."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("a point in time needs its time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - as above
        """Read the instant back; SQLite keeps no zone."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


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


def make_registry() -> registry:
    """Make the registry of one module's models, with metadata of its own."""
    types: dict[Any, Any] = {datetime: UtcDateTime, dict: JsonText, dict[str, Any]: JsonText}
    return registry(metadata=MetaData(naming_convention=_NAMES), type_annotation_map=types)


def now() -> datetime:
    """Tell the time in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562) as text of 36 characters: unique, and sorted by time of making."""
    return str(uuid7())
