"""Which images of the messages in the window a model is sent."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.images import base64_size
from codelab.agent.providers import Image
from codelab.agent.repository import images
from codelab.agent.schemas import ImageInfo

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.turns.window import Window
    from codelab.db import Database

__all__ = ("choose_images", "infos", "name_images", "read_images")

#: Bytes of base64 in one request, those of the current turn not bounded: Anthropic takes requests of 32 MB.
MOST_BYTES = 24 * 1024 * 1024


def infos(row: Row[Any]) -> tuple[ImageInfo, ...]:
    """Return what the images of a message are."""
    return msgspec.json.decode(row.images, type=tuple[ImageInfo, ...]) if row.images else ()


async def choose_images(database: Database, session_db_id: int, turn_db_id: int, window: Window) -> list[Row[Any]]:
    """Return the messages whose images are sent: those of the current turn, and the newest before it that fit.

    Of the turns up to one that a provider refused none are sent: if they were why, the session would never get well.
    """
    rows = [row for row in (*window.earlier, *window.asked, *window.steps) if row.images]
    chosen = [row for row in rows if row.turn_db_id == turn_db_id]
    earlier = [row for row in rows if row.turn_db_id != turn_db_id]
    if not earlier:
        return chosen
    async with database.read() as db:
        refused = await images.find_refused_turn(db, session_db_id, earlier[0].turn_db_id, turn_db_id)
    room = MOST_BYTES - sum(map(_weigh, chosen))
    for row in reversed(earlier):
        room -= _weigh(row)
        if room < 0 or row.turn_db_id <= refused:
            break
        chosen.append(row)
    return chosen


def _weigh(row: Row[Any]) -> int:
    return sum(base64_size(image.bytes) for image in infos(row))


async def read_images(database: Database, rows: list[Row[Any]]) -> dict[str, tuple[Image, ...]]:
    """Read the images of messages, by the id of the message."""
    if not rows:
        return {}
    async with database.read() as db:
        found = await images.list_of_messages(db, [row.id for row in rows])
    return {
        message_id: tuple(Image(image.media_type, image.data) for image in group)
        for message_id, group in groupby(found, key=lambda image: str(image.message_id))
    }


def name_images(rows: list[Row[Any]]) -> dict[str, tuple[Image, ...]]:
    """Make images without their data, where only people look."""
    return {row.id: tuple(Image(image.media_type, "") for image in infos(row)) for row in rows}
