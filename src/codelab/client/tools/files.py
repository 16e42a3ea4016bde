"""The file tools: read_file, list_files, write_file, create_directory."""

from __future__ import annotations

import codecs
import io
import os
import secrets
import stat
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from codelab.client.tools.errors import ToolError
from codelab.client.tools.paths import explain, printable_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codelab.client.tools.paths import Folder, Place

__all__ = (
    "MAX_TEXT",
    "CreateDirectory",
    "ListFiles",
    "ReadFile",
    "WriteFile",
    "create_directory",
    "encode",
    "list_files",
    "mode_of",
    "put",
    "read_file",
    "read_text",
    "write_file",
)

#: Bytes of text in one result.
MAX_TEXT = 256 * 1024
#: Bytes of a file that read_file opens at all.
MAX_FILE = 64 * 1024 * 1024
#: Entries in one listing.
MAX_ENTRIES = 5_000

LineNumber = Annotated[int, msgspec.Meta(ge=1)]


class ReadFile(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``read_file``; lines count from 1, both ends are included."""

    path: str
    encoding: str = "utf-8"
    start_line: LineNumber | None = None
    end_line: LineNumber | None = None


class ListFiles(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``list_files``; ``pattern`` is a glob of names, or of paths when it holds ``/``."""

    path: str
    recursive: bool = False
    include_hidden: bool = False
    pattern: str | None = None


class WriteFile(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``write_file``; ``backup`` keeps the old version as ``<name>.bak``."""

    path: str
    content: str
    encoding: str = "utf-8"
    create_dirs: bool = False
    backup: bool = True


class CreateDirectory(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``create_directory``; ``recursive`` makes the parents too."""

    path: str
    recursive: bool = True


def read_file(folder: Folder, args: ReadFile, *, secrets_allowed: bool = False) -> dict[str, Any]:
    """Read a text file, or some of its lines, up to ``MAX_TEXT`` bytes.

    A file of secrets needs ``secrets_allowed``, which says that a person allowed this read.
    """
    place = folder.resolve(args.path)
    # Here and not only where the question is put: what the name leads to may have changed since.
    if place.sensitive and not secrets_allowed:
        raise ToolError(f"{args.path}: looks like a file of secrets and was not approved")
    first, last = args.start_line or 1, args.end_line
    if last is not None and last < first:
        raise ToolError("end_line: must not be before start_line")
    kept: list[str] = []
    room, total, shown_to, truncated = MAX_TEXT, 0, first - 1, False
    for line in _lines(folder, place, args.encoding):
        total += 1
        if total < first or (last is not None and total > last) or truncated:
            continue
        data = line.encode("utf-8", "replace")
        truncated = len(data) > room
        if part := data[:room].decode("utf-8", "ignore"):
            kept.append(part)
            shown_to = total
        room -= len(data)
    return {
        "path": place.shown,
        "content": "".join(kept),
        "start_line": first,
        "end_line": shown_to,
        "total_lines": total,
        "truncated": truncated,
    }


def read_text(folder: Folder, place: Place, encoding: str = "utf-8") -> str | None:
    """Read a whole text file of at most ``MAX_FILE`` bytes; ``None`` when there is none."""
    if not os.path.lexists(place.real):
        return None
    return "".join(_lines(folder, place, encoding))


def list_files(folder: Folder, args: ListFiles) -> dict[str, Any]:
    """List a directory; symbolic links are named, never followed."""
    place = folder.resolve(args.path)
    entries: list[dict[str, Any]] = []
    room = MAX_TEXT
    for entry in _entries(folder, place, args):
        room -= len(entry["path"].encode()) + 48
        if len(entries) == MAX_ENTRIES or room < 0:
            return {"path": place.shown, "entries": entries, "truncated": True}
        entries.append(entry)
    return {"path": place.shown, "entries": entries, "truncated": False}


def write_file(folder: Folder, args: WriteFile) -> dict[str, Any]:
    """Write a file atomically: a temporary one beside it takes its name; an existing file keeps its mode."""
    place = folder.resolve(args.path)
    if args.path.endswith(("/", os.sep)):
        raise ToolError(f"{args.path}: is the name of a directory")
    data = encode(args.content, args.encoding)
    with folder.open_parent(place, make=args.create_dirs) as (parent, name):
        try:
            mode = mode_of(parent, name, place)
            backup = None
            if mode is not None and args.backup:
                with folder.open_file(place) as old:
                    put(parent, f"{name}.bak", io.FileIO(old, closefd=False), mode)
                backup = f"{place.shown}.bak"
            put(parent, name, io.BytesIO(data), mode)
        except OSError as error:
            raise explain(args.path, error) from None
    return {"path": place.shown, "bytes_written": len(data), "created": mode is None, "backup": backup}


def create_directory(folder: Folder, args: CreateDirectory) -> dict[str, Any]:
    """Create a directory; one that is already there is no error."""
    place = folder.resolve(args.path)
    if not place.parts:
        return {"path": place.shown, "created": False}
    with folder.open_parent(place, make=args.recursive) as (parent, name):
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise ToolError(f"{args.path}: exists and is not a directory") from None
            return {"path": place.shown, "created": False}
        except OSError as error:
            raise explain(args.path, error) from None
    return {"path": place.shown, "created": True}


def _lines(folder: Folder, place: Place, encoding: str) -> Iterator[str]:
    codec = _codec(encoding)
    with folder.open_file(place) as descriptor:
        if os.fstat(descriptor).st_size > MAX_FILE:
            raise ToolError(f"{place.asked}: is larger than {MAX_FILE // 1024 // 1024} MiB; search it instead")
        # newline="": the model must see the line ends that it has to write back.
        with open(descriptor, encoding=codec, newline="", closefd=False) as file:
            try:
                yield from file
            except UnicodeError:
                raise ToolError(f"{place.asked}: is not text in {codec}; it may be a binary file") from None
            except OSError as error:
                raise explain(place.asked, error) from None


def _codec(encoding: str) -> str:
    try:
        # "".encode raises for codecs that are no text encodings, such as base64.
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise ToolError(f"encoding: {encoding!r} is not a known text encoding") from None


def encode(content: str, encoding: str) -> bytes:
    """Encode a text; raises ``ToolError`` where the encoding is unknown or has no such characters."""
    codec = _codec(encoding)
    try:
        return content.encode(codec)
    except UnicodeError as error:
        raise ToolError(f"content: cannot be written in {codec}: {error}") from None


def mode_of(parent: int, name: str, place: Place) -> int | None:
    """Return the permissions of a regular file; ``None`` where there is none, ``ToolError`` for anything else."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise ToolError(f"{place.asked}: is a directory")
    if not stat.S_ISREG(mode):
        raise ToolError(f"{place.asked}: is not a regular file")
    return stat.S_IMODE(mode)


def put(parent: int, name: str, source: io.RawIOBase | io.BufferedIOBase, mode: int | None) -> None:
    """Write a file whole beside its place, then give it its name; raises ``OSError``."""
    temporary = f".codelab-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # 0o666 is cut by the umask, as for any new file of this person.
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            while chunk := source.read(1024 * 1024):
                file.write(chunk)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise


def _entries(folder: Folder, place: Place, args: ListFiles) -> Iterator[dict[str, Any]]:
    with folder.open_directory(place) as descriptor:
        yield from _below(folder, descriptor, place.parts, args, place)


def _below(
    folder: Folder, descriptor: int, parts: tuple[str, ...], args: ListFiles, place: Place
) -> Iterator[dict[str, Any]]:
    try:
        with os.scandir(descriptor) as scanned:
            found = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise explain(place.asked, error) from None
    for entry in found:
        if entry.name.startswith(".") and not args.include_hidden:
            continue
        path = (*parts, entry.name)
        shown = "/".join(path)
        kind = None
        try:
            kind = _kind(entry)
            size = entry.stat(follow_symlinks=False).st_size if kind == "file" else 0
            below = folder.enter(descriptor, entry.name) if kind == "directory" else None
        except OSError:
            below, size = None, 0
        except ToolError:
            continue
        try:
            if kind and _matches(args.pattern, entry.name, shown):
                yield {"path": printable_path(shown), "type": kind, "size": size}
            if below is not None and args.recursive:
                yield from _below(folder, below, path, args, place)
        finally:
            if below is not None:
                os.close(below)


def _kind(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "symlink"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else None


def _matches(pattern: str | None, name: str, path: str) -> bool:
    return pattern is None or fnmatchcase(path if "/" in pattern else name, pattern)
