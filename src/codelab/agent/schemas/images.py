"""Images in messages, as they go over the wire: as data, never as addresses."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ("MAX_IMAGES", "ImageInfo", "NewImage")

#: Images of one message at most.
MAX_IMAGES = 8
#: Not a ``Literal``, as in ``approvals.py``.
MediaType = Annotated[
    str,
    Meta(
        pattern=r"^image/(png|jpeg|gif|webp)$(?!\n)",
        extra_json_schema={"enum": ["image/png", "image/jpeg", "image/gif", "image/webp"]},
    ),
]


class NewImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send an image; ``data`` is base64 (RFC 4648 section 4)."""

    media_type: MediaType
    data: str


class ImageInfo(msgspec.Struct, frozen=True):
    """Say what an image is; ``bytes`` and ``sha256`` are of the image itself."""

    media_type: str
    bytes: int
    sha256: str
