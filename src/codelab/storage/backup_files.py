"""What a backup is on disk: a file, and a small manifest beside it that is there only when the file is whole."""

from __future__ import annotations

import os
import re
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Literal

import msgspec

from codelab.errors import CodelabError, StartError

__all__ = ("BackupManifest", "complete_backups", "key_fingerprint", "read_backup", "sha256_of", "sync", "write_private")

#: Version of the manifest's form.
FORMAT = 1
_NAME = re.compile(r"codelab-(\d{8}T\d{6}Z)-(agent|auth)(?:-(\d+))?\.(?:sqlite|pgdump|tar\.zst)\.json")


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one backup of one module.

    ``counts`` are the rows of each table in it. ``key_fingerprint`` belongs to the key file, which is not in it.
    """

    format: int = FORMAT
    module: str
    kind: Literal["sqlite", "pg_dump", "archive"]
    file: str
    bytes: int
    sha256: str
    revision: str
    counts: dict[str, int]
    created_at: datetime
    codelab: str
    key_fingerprint: str | None = None


def read_backup(file: Path) -> tuple[Path, BackupManifest]:
    """Find a backup by its file or its manifest, and prove that not a byte of it was changed.

    Raises:
        CodelabError: it is not whole.
    """
    note = file if file.suffix == ".json" else file.with_name(f"{file.name}.json")
    try:
        content = note.read_bytes()
        number = msgspec.json.decode(content, type=dict).get("format")
        if number != FORMAT:
            raise CodelabError(f"{note}: its format {number!r} is unknown to this program; install a newer version")
        manifest = msgspec.json.decode(content, type=BackupManifest)
        data = note.with_name(Path(manifest.file).name)
        size = data.stat().st_size
        if size != manifest.bytes or sha256_of(data) != manifest.sha256:
            raise CodelabError(
                f"{data}: is not as it was written ({size} of {manifest.bytes} bytes); nothing was changed"
            )
    except OSError as error:
        raise CodelabError(f"{error.filename}: cannot be read: {error.strerror}; nothing was changed") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CodelabError(f"{note}: is no manifest of a backup; nothing was changed") from None
    return data, manifest


def complete_backups(folder: Path, module: str) -> list[Path]:
    """List the manifests of a module's backups in a folder, the oldest first."""
    found: list[tuple[str, int, Path]] = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None and match[2] == module:
            # Those of one second are numbered, the first without a number.
            found.append((match[1], int(match[3] or 1), path))
    return [path for *_, path in sorted(found)]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def key_fingerprint(key_file: Path) -> str | None:
    """Name the content of the key file without telling it; None when there is no such file.

    Raises:
        StartError: it is there and cannot be read.
    """
    if not key_file.exists():
        return None
    try:
        return sha256_of(key_file)[:32]
    except OSError as error:
        raise StartError(
            f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {key_file} cannot be read: {error.strerror}."
        ) from None


def write_private(file: Path, content: bytes = b"") -> None:
    """Make a file that only its owner may read; what a backup holds is as secret as the database."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:  # noqa: PTH123 - a descriptor, for the mode
        opened.write(content)


def sync(path: Path) -> None:
    """Make a file or a folder survive a power cut; Windows cannot open folders, and needs no such thing."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
