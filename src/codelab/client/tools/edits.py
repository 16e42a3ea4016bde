"""The tools that change files which exist: apply_diff, delete_file, move_file."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.client.tools.diffs import apply
from codelab.client.tools.errors import ToolError
from codelab.client.tools.files import encode, mode_of, put, read_text
from codelab.client.tools.paths import explain

if TYPE_CHECKING:
    from codelab.client.tools.paths import Folder, Place

__all__ = (
    "ApplyDiff",
    "DeleteFile",
    "MoveFile",
    "apply_diff",
    "delete_file",
    "find_file",
    "find_free",
    "move_file",
    "patched",
)


class ApplyDiff(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``apply_diff``; ``diff`` is a unified diff of this one file."""

    path: str
    diff: str
    encoding: str = "utf-8"


class DeleteFile(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``delete_file``."""

    path: str


class MoveFile(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``move_file``; nothing that exists is replaced."""

    source: str
    destination: str
    create_dirs: bool = False


def find_file(folder: Folder, path: str) -> Place:
    """Resolve the path of a file that is to be taken away; what a symbolic link leads to is not meant by its name.

    Raises:
        ToolError: it leads out of the folder, or it is a link.
    """
    place = folder.resolve(path)
    if Path(folder.root, path).is_symlink():
        raise ToolError(f"{path}: is a symbolic link; links are not deleted or moved")
    return place


def find_free(folder: Folder, path: str) -> Place:
    """Resolve the path of a file that is to be made.

    Raises:
        ToolError: it leads out of the folder, is the name of a directory, or something is there.
    """
    place = folder.resolve(path)
    if path.endswith(("/", os.sep)):
        raise ToolError(f"{path}: is the name of a directory; give the name of the file too")
    if os.path.lexists(place.real) or os.path.lexists(Path(folder.root, path)):
        raise ToolError(f"{path}: exists already; nothing was moved")
    return place


def patched(folder: Folder, args: ApplyDiff) -> tuple[Place, str, str]:
    """Return the place of a file, its text, and its text after the diff.

    Raises:
        ToolError: there is no such file, or the diff does not fit.
    """
    place = folder.resolve(args.path)
    old = read_text(folder, place, args.encoding)
    if old is None:
        raise ToolError(f"{args.path}: does not exist; write_file makes new files")
    return place, old, apply(old, args.diff)


def apply_diff(folder: Folder, args: ApplyDiff) -> dict[str, Any]:
    """Change a file by a diff, whole or not at all: the new text takes its name in one step."""
    place, _, new = patched(folder, args)
    data = encode(new, args.encoding)
    with folder.open_parent(place) as (parent, name):
        try:
            mode = mode_of(parent, name, place)
            put(parent, name, io.BytesIO(data), mode)
        except OSError as error:
            raise explain(args.path, error) from None
    return {"path": place.shown, "bytes_written": len(data), "total_lines": len(new.splitlines())}


def delete_file(folder: Folder, args: DeleteFile) -> dict[str, Any]:
    """Delete one file."""
    place = find_file(folder, args.path)
    with folder.open_parent(place) as (parent, name):
        try:
            _require_file(parent, name, args.path)
            os.unlink(name, dir_fd=parent)
        except OSError as error:
            raise explain(args.path, error) from None
    return {"path": place.shown, "deleted": True}


def move_file(folder: Folder, args: MoveFile) -> dict[str, Any]:
    """Give a file another name; one that is taken is never replaced, also when it was taken just now."""
    source, target = find_file(folder, args.source), find_free(folder, args.destination)
    with folder.open_parent(source) as (parent, name):
        try:
            _require_file(parent, name, args.source)
        except OSError as error:
            raise explain(args.source, error) from None
        with folder.open_parent(target, make=args.create_dirs) as (new_parent, new_name):
            try:
                _rename(parent, name, new_parent, new_name)
            except FileExistsError:
                raise ToolError(f"{args.destination}: exists already; nothing was moved") from None
            except OSError as error:
                raise explain(args.destination, error) from None
    return {"source": source.shown, "destination": target.shown}


def _rename(parent: int, name: str, new_parent: int, new_name: str) -> None:
    try:
        # A second name fails where something is, which a rename would replace.
        os.link(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        # No second names on this file system. Nothing was there a moment ago.
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)
        return
    os.unlink(name, dir_fd=parent)


def _require_file(parent: int, name: str, path: str) -> None:
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        raise ToolError(f"{path}: is a directory; only files can be deleted or moved")
    if not stat.S_ISREG(mode):
        raise ToolError(f"{path}: is not a regular file")
