"""The key file: a key that is in no database, from which both modules derive what they encrypt and sign rows with."""

from __future__ import annotations

import binascii
import contextlib
import logging
import os
import secrets
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

from joserfc.jwk import OctKey

from codelab.errors import StartError

__all__ = ("open_key_file", "read_key_file", "write_private_file")

_KEY_BYTES = 32

logger = logging.getLogger(__name__)


def open_key_file(path: Path) -> OctKey:
    """Read the key that encrypts the signing keys; make it (mode 0600, with its folder) when it is absent.

    A file that holds no such key is put aside, so that the server can start.

    Raises:
        StartError: the file can be neither read nor made; the line names the variable.
    """
    try:
        if (key := _read_key(path)) is not None:
            return key
        if path.exists():
            aside = path.with_name(f"{path.name}.unusable-{secrets.token_hex(4)}")
            path.rename(aside)
            logger.error("%s holds no key of codelab; it was put aside as %s", path, aside)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode() + "\n"
        if write_private_file(path, content):
            logger.warning("Key file made: %s. Back it up: without it the signing keys in the database are lost.", path)
        key = _read_key(path)
    except OSError as error:
        raise StartError(
            f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} cannot be read or made: {error.strerror}."
        ) from None
    if key is None:
        raise StartError(f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} changed while it was read; start again.")
    return key


def read_key_file(path: Path) -> OctKey | None:
    """Read the key that encrypts the signing keys; None when there is no such file or no key in it.

    Raises:
        StartError: the file cannot be read.
    """
    try:
        return _read_key(path)
    except OSError as error:
        raise StartError(f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {path} cannot be read: {error.strerror}.") from None


def _read_key(path: Path) -> OctKey | None:
    try:
        raw = urlsafe_b64decode(path.read_bytes().strip())
    except (FileNotFoundError, binascii.Error, ValueError):
        return None
    text = urlsafe_b64encode(raw).decode().rstrip("=")
    return OctKey.import_key({"kty": "oct", "k": text}) if len(raw) == _KEY_BYTES else None


def write_private_file(path: Path, content: str) -> bool:
    """Make a file of mode 0600 with its whole content at once; False when it is there already."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            Path(name).replace(path)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
