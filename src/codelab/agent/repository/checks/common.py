"""What the checks of all rows share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from codelab.storage import Finding

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("did", "find")

#: Rows that one finding names at most.
NAMED = 10


async def find(
    connection: AsyncConnection, check: str, statement: Select[Any], told: str, *, repairable: bool = False
) -> list[Finding]:
    """Make one finding of the rows of a statement; each row is the parts of a name."""
    count = (await connection.execute(select(func.count()).select_from(statement.subquery()))).scalar_one()
    if not count:
        return []
    rows = tuple(" ".join(map(str, row)) for row in await connection.execute(statement.limit(NAMED)))
    detail = told.format(count=count)
    return [Finding(check=check, severity="fault", detail=detail, rows=rows, repairable=repairable)]


def did(rows: int, sentence: str) -> list[str]:
    """Say what was done to so many rows, nothing where it was none."""
    return [sentence.format(rows)] if rows else []
