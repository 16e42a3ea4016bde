"""Images from files, as the server takes them with a message."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from codelab.client.console import escape_line
from codelab.client.errors import ClientError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("read_image",)

#: Bytes that are read at most; what the server takes is less.
_MOST = 64 * 1024 * 1024
_TYPES = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


def read_image(path: Path) -> dict[str, str]:
    """Read a file for the member ``images`` of a message; its type is what its bytes are, whatever its name.

    Raises:
        ClientError: it cannot be read, or is no PNG, JPEG, GIF or WebP.
    """
    name = escape_line(str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise ClientError(f"--image {name}: {error.strerror or 'it cannot be read'}") from None
    if len(raw) > _MOST:
        raise ClientError(f"--image {name}: it is larger than any server takes.")
    media_type = next((kind for kind, begins in _TYPES if begins.match(raw)), None)
    if media_type is None:
        raise ClientError(f"--image {name}: it is no PNG, JPEG, GIF or WebP image.")
    return {"media_type": media_type, "data": base64.b64encode(raw).decode()}
