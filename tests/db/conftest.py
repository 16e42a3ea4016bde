from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Integer, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codelab.db import JsonText, parse_url
from codelab.db.engine import create_engine, writing
from codelab.db.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


class Base(DeclarativeBase):
    """Base of what the tests of the writer write."""


class Note(Base):
    """A text that may be there once."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(Text, unique=True)
    number: Mapped[int] = mapped_column(Integer, default=0)
    data: Mapped[Any] = mapped_column(JsonText, nullable=True)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine as the modules have it, and the table ``notes``."""
    engine = create_engine(parse_url(database_url, "TEST_DB_URL"), "codelab.test")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
async def writer(engine: AsyncEngine) -> AsyncIterator[Writer]:
    """A running writer on ``engine``."""
    writer = Writer(writing(engine))
    writer.start()
    yield writer
    await writer.stop()
