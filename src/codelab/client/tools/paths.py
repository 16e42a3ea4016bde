"""The folder that file tools never leave.

A path is resolved once, then walked again from the folder's own descriptor without following any symbolic link, so
that a link which is put there between the check and the use is refused by the kernel (``openat``, ``O_NOFOLLOW``).
codelab's data folder is told by its inode, which no other spelling, link or letter case of its name can hide.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from codelab.client.tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Folder", "Place", "explain", "is_sensitive", "printable_path")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Place:
    """A resolved place in the folder: its real path, and the names that lead there from the folder."""

    asked: str
    real: str
    parts: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Return the path inside the folder, with ``/`` between names."""
        return printable_path("/".join(self.parts) or ".")

    @property
    def sensitive(self) -> bool:
        """Tell whether the asked or the real name looks like a file of secrets."""
        return is_sensitive(PurePath(self.asked).parts) or is_sensitive(self.parts)


def is_sensitive(parts: tuple[str, ...]) -> bool:
    """Tell whether a path names secrets: ``.env*`` anywhere in it, ``*.pem`` or ``id_*`` at its end, in any case."""
    lowered = [part.lower() for part in parts]
    if not lowered:
        return False
    # `key.pem.bak` is the backup that write_file keeps of `key.pem`.
    last = lowered[-1].removesuffix(".bak")
    return any(part.startswith(".env") for part in lowered) or last.endswith(".pem") or last.startswith("id_")


def printable_path(path: str) -> str:
    """Replace bytes of a file name that are not UTF-8, so that the name can be sent as JSON."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def explain(path: str, error: OSError) -> ToolError:
    """Turn an error of the operating system into a sentence for the model."""
    if error.errno == errno.ELOOP:
        return ToolError(f"{path}: is a symbolic link that leads nowhere allowed")
    return ToolError(f"{path}: {error.strerror or error}")


class Folder:
    """The folder of a chat, and codelab's data folder that is never a part of it."""

    def __init__(self, root: str | os.PathLike[str], data: str | os.PathLike[str]) -> None:
        self.root = os.path.realpath(root)
        self.data = os.path.realpath(data)
        found = Path(self.data).stat()
        self._data_identity = (found.st_dev, found.st_ino)

    def resolve(self, path: str) -> Place:
        """Resolve a path of the model, symbolic links included.

        Raises:
            ToolError: it leads out of the folder, or into codelab's data folder.
        """
        if not path or "\0" in path:
            raise ToolError("path: must be a path inside the folder")
        try:
            real = os.path.realpath(Path(self.root, path))
        except (OSError, ValueError) as error:
            raise ToolError(f"{path}: cannot be resolved: {error}") from None
        if real != self.root and not real.startswith(self.root.rstrip(os.sep) + os.sep):
            raise ToolError(f"{path}: is outside the folder of this chat; paths must stay inside it")
        if real == self.data or real.startswith(self.data + os.sep):
            raise self._forbidden(path)
        relative = os.path.relpath(real, self.root)
        return Place(path, real, PurePath(relative).parts)

    @contextmanager
    def open_directory(self, place: Place) -> Iterator[int]:
        """Open a directory, walking from the folder without following links; yields its descriptor.

        Raises:
            ToolError: it is absent, no directory, or a link was put in its way.
        """
        descriptor = self._walk(place, place.parts, make=False)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def open_parent(self, place: Place, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the directory that holds a place; yields its descriptor and the last name.

        With ``make`` the missing directories on the way are created.
        """
        if not place.parts:
            raise ToolError(f"{place.asked}: is the folder of this chat itself")
        descriptor = self._walk(place, place.parts[:-1], make=make)
        try:
            yield descriptor, place.parts[-1]
        finally:
            os.close(descriptor)

    @contextmanager
    def open_file(self, place: Place) -> Iterator[int]:
        """Open a regular file for reading; yields its descriptor.

        Raises:
            ToolError: it is absent, no regular file, or a link was put in its way.
        """
        with self.open_parent(place) as (parent, name):
            try:
                descriptor = os.open(name, _FILE, dir_fd=parent)
            except OSError as error:
                raise explain(place.asked, error) from None
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise ToolError(f"{place.asked}: is a directory")
            if not stat.S_ISREG(mode):
                raise ToolError(f"{place.asked}: is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def enter(self, parent: int, name: str) -> int:
        """Open one directory below an open one; raises ``OSError`` for links, ``ToolError`` for the data folder."""
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        return self._guard(descriptor, name)

    def _walk(self, place: Place, parts: tuple[str, ...], *, make: bool) -> int:
        try:
            current = self._guard(os.open(self.root, _DIRECTORY), place.asked)
            for part in parts:
                try:
                    if make:
                        self._make(current, part)
                    below = self.enter(current, part)
                finally:
                    os.close(current)
                current = below
        except OSError as error:
            raise explain(place.asked, error) from None
        return current

    def _make(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            return

    def _guard(self, descriptor: int, path: str) -> int:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == self._data_identity:
            os.close(descriptor)
            raise self._forbidden(path)
        return descriptor

    def _forbidden(self, path: str) -> ToolError:
        return ToolError(f"{path}: belongs to codelab's own data folder, which tools never touch")
