"""SQL of the images of messages. Nothing here reads the bytes of more images than are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, insert, select

from codelab.agent.repository.tables import images, turns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.images import TakenImage

__all__ = ("add", "find", "find_refused_turn", "list_of_messages")


async def add(db: AsyncSession, session_db_id: int, message_id: str, taken: Sequence[TakenImage]) -> None:
    """Insert the images of a message."""
    owned = {"session_db_id": session_db_id, "message_id": message_id}
    rows = [owned | {"n": n, "media_type": image.info.media_type, "data": image.data} for n, image in enumerate(taken)]
    await db.execute(insert(images), rows)


async def find(db: AsyncSession, session_db_id: int, message_id: str, n: int) -> Row[Any] | None:
    """Return an image of a message of a session: its type and its base64."""
    statement: Select[Any] = select(images.c.media_type, images.c.data).where(
        images.c.message_id == message_id, images.c.n == n, images.c.session_db_id == session_db_id
    )
    row: Row[Any] | None = (await db.execute(statement)).first()
    return row


async def list_of_messages(db: AsyncSession, message_ids: Collection[str]) -> list[Row[Any]]:
    """Return the images of some messages, those of each in order."""
    statement: Select[Any] = select(images.c.message_id, images.c.media_type, images.c.data)
    found = await db.execute(
        statement.where(images.c.message_id.in_(message_ids)).order_by(images.c.message_id, images.c.n)
    )
    return list(found.all())


async def find_refused_turn(db: AsyncSession, session_db_id: int, first: int, before: int) -> int:
    """Return the newest turn in a range of a session that a provider refused, by its internal key; 0 for none."""
    statement = select(func.max(turns.c.db_id)).where(
        turns.c.session_db_id == session_db_id,
        turns.c.db_id >= first,
        turns.c.db_id < before,
        turns.c.error_code == "model_refused",
    )
    return (await db.execute(statement)).scalar_one() or 0
