"""Small private files in the data folder, replaced atomically, and what the chat remembers in them."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from filelock import BaseFileLock

__all__ = (
    "SessionBook",
    "find_data_folder",
    "hold_lock",
    "hold_lock_async",
    "make_data_folder",
    "open_private_append",
    "read_private_json",
    "write_private",
)

#: Seconds to wait for another chat that holds a lock.
LOCK_TIMEOUT = 90.0
#: Folders remembered in `sessions.json`; the oldest are forgotten.
MAX_REMEMBERED = 500


def find_data_folder(environ: Mapping[str, str]) -> Path:
    """Tell the data folder: ``CODELAB_DATA_DIR``, else the user's data folder of the operating system."""
    from pathlib import Path

    if given := environ.get("CODELAB_DATA_DIR"):
        return Path(given).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("codelab", appauthor=False)


def make_data_folder(folder: Path) -> None:
    """Make the data folder with mode 0700, or take the group's and others' rights from an existing one.

    Raises:
        ClientError: it cannot be made, or it belongs to somebody else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid():
            raise ClientError(f"The data folder {folder} is another user's; set CODELAB_DATA_DIR to one of yours.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise ClientError(f"The data folder {folder} cannot be used: {error.strerror}.") from None


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file.

    Raises:
        ClientError: another chat held it for ``LOCK_TIMEOUT`` seconds.
    """
    lock = _file_lock(path)
    _acquire(lock, path)
    try:
        yield
    finally:
        lock.release()


@asynccontextmanager
async def hold_lock_async(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file; waiting for it does not stop the event loop."""
    lock = _file_lock(path)
    await asyncio.to_thread(_acquire, lock, path)
    try:
        yield
    finally:
        lock.release()


def _file_lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    # Taken in one thread and released in another.
    return FileLock(path, timeout=LOCK_TIMEOUT, mode=0o600, thread_local=False)


def _acquire(lock: BaseFileLock, path: Path) -> None:
    from filelock import Timeout

    try:
        lock.acquire()
    except Timeout:
        raise ClientError(f"Another codelab chat holds {path}; try again.") from None
    except OSError as error:
        raise ClientError(f"{path} cannot be locked: {error.strerror}.") from None


def open_private_append(path: Path) -> int:
    """Open a file of mode 0600 for appending and return its descriptor."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically; the new one has mode 0600 and is on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_private_json(path: Path) -> Any:
    """Read a JSON file that only its owner, we, may read; ``None`` when it is absent or not JSON.

    Raises:
        ClientError: it belongs to somebody else, others may read or change it, or it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise ClientError(f"{path} is not a file of yours; remove it and try again.")
        if mode & 0o077:
            raise ClientError(f"{path} is open to others (mode {mode:04o}); remove it and try again.")
        try:
            return msgspec.json.decode(file.read())
        except msgspec.DecodeError:
            return None


class SessionBook:
    """Remember the latest session of each folder and server, in ``sessions.json``."""

    def __init__(self, data: Path) -> None:
        self._path = data / "sessions.json"
        self._lock = data / "sessions.lock"

    def latest(self, server: str, folder: str) -> str | None:
        """Tell the id of the folder's latest session on this server."""
        entry = self._read().get(_book_key(server, folder))
        found = entry.get("session_id") if isinstance(entry, dict) else None
        return found if isinstance(found, str) else None

    def remember(self, server: str, folder: str, session_id: str) -> None:
        """Make a session the folder's latest one."""
        with hold_lock(self._lock):
            entries = {key: value for key, value in self._read().items() if isinstance(value, dict)}
            entries[_book_key(server, folder)] = {"session_id": session_id, "used_at": time.time()}
            newest = sorted(entries.items(), key=lambda item: float(item[1].get("used_at") or 0))[-MAX_REMEMBERED:]
            write_private(self._path, msgspec.json.encode(dict(newest)))

    def _read(self) -> dict[str, Any]:
        found = read_private_json(self._path)
        return found if isinstance(found, dict) else {}


def _book_key(server: str, folder: str) -> str:
    return msgspec.json.encode([server, folder]).decode()
