"""Images that people send: read, proven to be what they say, and measured before anything is written."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.schemas import MAX_IMAGES, ImageInfo
from codelab.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.schemas import NewImage

__all__ = ("TakenImage", "base64_size", "body_size", "take_images")

#: How the bytes of each type begin.
_BEGINNINGS = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
#: Bytes of a message's JSON beside its text and the data of its images.
_FRAME = 64 * 1024


class TakenImage(msgspec.Struct, frozen=True):
    """Hold an image that fits its type; ``data`` is canonical base64."""

    info: ImageInfo
    data: str


async def take_images(images: Sequence[NewImage], max_bytes: int) -> tuple[TakenImage, ...]:
    """Read the images of a message, in a thread: a large one takes milliseconds.

    Raises:
        BadRequest: the data is no base64, or no image of its type.
        TooLarge: it is over ``max_bytes``.
    """
    return await asyncio.to_thread(_take, images, max_bytes) if images else ()


def _take(images: Sequence[NewImage], max_bytes: int) -> tuple[TakenImage, ...]:
    return tuple(_read(image, f"images[{n}].data", max_bytes) for n, image in enumerate(images))


def _read(image: NewImage, field: str, max_bytes: int) -> TakenImage:
    if len(image.data) > base64_size(max_bytes):
        raise _too_large(field, max_bytes)
    try:
        raw = base64.b64decode(image.data, validate=True)
    except ValueError:
        raise BadRequest(f"{field}: is not base64 (RFC 4648 section 4)", field=field) from None
    if len(raw) > max_bytes:
        raise _too_large(field, max_bytes)
    if _BEGINNINGS[image.media_type].match(raw) is None:
        raise BadRequest(f"{field}: is not an image of the type {image.media_type}", field=field)
    info = ImageInfo(image.media_type, len(raw), hashlib.sha256(raw).hexdigest())
    return TakenImage(info, base64.b64encode(raw).decode())


def _too_large(field: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"{field}: must not be over {max_bytes} bytes", field=field)


def base64_size(size: int) -> int:
    """Return how many characters of base64 so many bytes have."""
    return -(-size // 3) * 4


def body_size(max_message_bytes: int, max_image_bytes: int) -> int:
    """Return how many bytes the JSON of a message may have.

    Escaped as JSON allows a character may take six bytes for one of UTF-8; nobody escapes base64 so.
    """
    return max_message_bytes * 6 + MAX_IMAGES * base64_size(max_image_bytes) + _FRAME
