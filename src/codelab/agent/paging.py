"""The cursors of lists that are numbered by the database."""

from __future__ import annotations

import re

from codelab.errors import BadRequest

__all__ = ("read_position",)

_POSITION = re.compile(r"[0-9]{1,18}")  # what fits into 64 bits


def read_position(cursor: str | None) -> int | None:
    """Read the position that a cursor stands for; None is the beginning of its list.

    Raises:
        BadRequest: the cursor is none of this list.
    """
    if cursor is None:
        return None
    if not _POSITION.fullmatch(cursor):
        raise BadRequest("cursor: is none of this list", field="cursor")
    return int(cursor)
