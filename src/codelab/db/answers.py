"""Answers that a module keeps for clients who repeat a request: the columns of their table, and its SQL."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - the mapping reads the annotations
from typing import TYPE_CHECKING, Any

from msgspec.json import encode
from sqlalchemy import Index, String, Text, delete, insert, select
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from codelab.db.types import BigKey, UtcDateTime, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row, Table
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ("AnswerRow", "KeptAnswers")


class AnswerRow:
    """The columns of what was answered to a request that had an Idempotency-Key.

    ``request`` is the hash of route and key, ``digest`` that of what the client sent, ``answer`` is JSON,
    empty where it was too long to keep.
    """

    __tablename__: str

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index, ...]:
        """Index what is looked up, and what is removed, by names that the table gives."""
        name = cls.__tablename__
        return (
            Index(f"uq_{name}_request", "owner_id", "request", unique=True),
            Index(f"ix_{name}_created_at", "created_at"),
        )

    db_id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)
    owner_id: Mapped[str] = mapped_column(String(255), nullable=False)
    request: Mapped[str] = mapped_column(String(64), nullable=False)
    digest: Mapped[str] = mapped_column(String(64), nullable=False)
    answer: Mapped[str] = mapped_column(Text, nullable=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, nullable=False)


class KeptAnswers:
    """SQL of a module's table of answers."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def find(self, db: AsyncSession, owner_id: str, request: str) -> Row[Any] | None:
        """Return what was answered to a request of a principal."""
        columns = self._table.c
        statement = select(self._table).where(columns.owner_id == owner_id, columns.request == request)
        return (await db.execute(statement)).first()

    async def add(self, db: AsyncSession, **values: Any) -> None:
        """Insert an answer."""
        await db.execute(insert(self._table).values(created_at=now(), **values))

    async def list_before(self, db: AsyncSession, before: datetime, limit: int) -> list[int]:
        """Return the keys of at most so many answers that are older than a time, the oldest first."""
        columns = self._table.c
        old = select(columns.db_id).where(columns.created_at < before).order_by(columns.created_at).limit(limit)
        return list((await db.execute(old)).scalars())

    async def remove(self, db: AsyncSession, keys: Sequence[int]) -> int:
        """Delete answers; return how many there were."""
        columns = self._table.c
        removed = await db.execute(delete(self._table).where(columns.db_id.in_(keys)).returning(columns.db_id))
        return len(removed.all())

    async def remove_telling_of(self, db: AsyncSession, member: str, value: str) -> None:
        """Delete the answers that have a member of this name and value."""
        told = encode({member: value}).decode()[1:-1]
        await db.execute(delete(self._table).where(self._table.c.answer.contains(told, autoescape=True)))
