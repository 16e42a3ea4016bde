"""The reference's column values, on whichever database, as values that ours can hold.

SQLite keeps anything in any column, so nothing is taken for granted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from codelab.text import decode_lenient, scrub, scrub_json

__all__ = ("as_bool", "as_id", "as_json", "as_number", "as_text", "as_time")


def as_text(value: Any) -> str | None:
    """Read text, with U+FFFD for what cannot be stored; NULL stays None."""
    if value is None or isinstance(value, str):
        return None if value is None else scrub(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return scrub(bytes(value).decode("utf-8", "replace"))
    return str(value)


def as_id(value: Any) -> str | None:
    """Read an id that a column of 36 characters can hold; None for one that cannot be kept."""
    text = as_text(value)
    return text if text and len(text) <= 36 and "\ufffd" not in text else None


def as_time(value: Any) -> datetime | None:
    """Read a time: naive ones are UTC, as the reference writes them; None for what is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None


def as_json(value: Any) -> Any:
    """Read JSON in text; None for what is none."""
    text = as_text(value) if not isinstance(value, (dict, list)) else None
    try:
        return scrub_json(value) if text is None else decode_lenient(text.encode())
    except (ValueError, RecursionError):
        return None


def as_bool(value: Any, *, default: bool = False) -> bool:
    """Read a truth value: SQLite has 0 and 1."""
    return default if value is None else value in {True, "1", "true", "t"}


def as_number(value: Any, default: int, low: int, high: int) -> int:
    """Read a whole number within bounds."""
    return min(max(value, low), high) if isinstance(value, int) else default
