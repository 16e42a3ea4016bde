"""Read a portable archive, and trust nothing in it.

It is read twice: first every member is checked against ``SHA256SUMS`` while nothing is written anywhere, then the rows
are loaded, and their digests compared with the manifest before the commit.
"""

from __future__ import annotations

import contextlib
import sys
import tarfile
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

import msgspec

from codelab.errors import CodelabError
from codelab.storage import archive_format as fmt
from codelab.storage.digest import TableDigest
from codelab.storage.values import BATCH_BYTES, Batch, row_decoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from pathlib import Path
    from typing import IO, Any, Self

    from codelab.storage.load import Progress
    from codelab.storage.values import Table

T = TypeVar("T", fmt.Header, fmt.Manifest)

__all__ = ("ArchivedModule", "read_manifest")

#: Bytes that a member may have: no database of ours holds a larger row.
MAX_PART = 1 << 30
MAX_OTHER = 64 << 20
_CHUNK = 1 << 20


class ArchivedModule:
    """One module's rows in an archive whose manifest was read; the tables are read in their order, each once."""

    def __init__(self, file: Path, manifest: fmt.Manifest, module: str) -> None:
        header = manifest.header.modules[module]
        self.revision = header.revision
        self.tables: Sequence[Table] = header.described()
        self.counts = {table: tally.rows for table, tally in manifest.tallies[module].items()}
        self.expected = {table: TableDigest.of(tally) for table, tally in manifest.tallies[module].items()}
        self._file = file
        self._module = module
        self._members: Iterator[tuple[str, int, IO[bytes]]] | None = None
        self._next: tuple[str, int, IO[bytes]] | None = None

    async def read(self, table: Table) -> AsyncGenerator[Batch]:
        """Give the rows of a table.

        Raises:
            CodelabError: a line is not a row of the table.
        """
        if self._members is None:
            self._members = _members(self._file)
            self._next = next(self._members, None)
        prefix = f"{self._module}/{table.name}."
        decode = row_decoder(table).decode_lines
        while self._next is not None:
            name, _, content = self._next
            if name.startswith(prefix):
                with _readable(self._file):
                    for lines in _lines(name, content):
                        yield self._batch(name, lines, decode)
            elif fmt.PART.fullmatch(name) and name.startswith(f"{self._module}/"):
                return  # the next table's
            self._next = next(self._members, None)

    def _batch(self, name: str, lines: list[bytes], decode: Callable[[bytes], list[Any]]) -> Batch:
        try:
            rows = decode(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CodelabError(f"{self._file}: {name}: a line is no row of the table: {error}") from None
        if len(rows) != len(lines):
            raise CodelabError(f"{self._file}: {name}: a line is no row of the table: it is empty, or more than one")
        if any(b"\\u0000" in line for line in lines) and any(_holds_nul(row) for row in rows):
            raise CodelabError(f"{self._file}: {name}: a text holds U+0000")
        return Batch(lines, rows)


def read_manifest(file: Path, progress: Progress) -> fmt.Manifest:
    """Check the whole archive, and return what it says about itself.

    Raises:
        CodelabError: it cannot be read, is no archive of ours, was altered, cut or reordered, or is newer than this
            program.
    """
    progress.begin("check the archive", None)
    with _readable(file):
        return _check(file, progress)


def _check(file: Path, progress: Progress) -> fmt.Manifest:
    sums: list[str] = []
    header: fmt.Header | None = None
    manifest: fmt.Manifest | None = None
    ended = False
    order = _Order(file)
    for name, size, content in _members(file):
        if ended or size > (MAX_PART if fmt.PART.fullmatch(name) else MAX_OTHER):
            raise _altered(file, name)
        if name == fmt.SUMS:
            if content.read() != "".join(sums).encode():
                raise _altered(file, name)
            ended = True
            continue
        digest = sha256()
        kept = bytearray()
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            if name in {fmt.HEADER, fmt.MANIFEST}:
                kept += chunk
            else:
                progress.advance(chunk.count(b"\n"))
        sums.append(f"{digest.hexdigest()}  {name}\n")
        if name == fmt.HEADER and header is None:
            header = _header(file, bytes(kept))
            order.expect(header)
        elif name == fmt.MANIFEST and manifest is None:
            manifest = _decoded(file, name, bytes(kept), fmt.Manifest)
        elif manifest is not None or not order.follows(name):
            raise _altered(file, name)
    if not ended or manifest is None or manifest.header != header or not _is_complete(manifest):
        raise _altered(file, fmt.MANIFEST)
    return manifest


def _holds_nul(row: tuple[Any, ...]) -> bool:
    return any(isinstance(value, str) and "\x00" in value for value in row)


class _Plain(tarfile.TarInfo):
    """Refuse every kind of member but a file: the tar module would read a long name into memory, however long."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise CodelabError(f"{member.name!r}: an archive of codelab has no such member; nothing was imported")
        return member


class _Order:
    """Know which member may come next: the parts of a table follow each other, and the tables their header."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tables: list[tuple[str, str]] | None = None
        self._number = 0
        self._seen_readme = False

    def expect(self, header: fmt.Header) -> None:
        self._tables = [(module, table) for module, entry in header.modules.items() for table in entry.tables]

    def follows(self, name: str) -> bool:
        if self._tables is None:
            first, self._seen_readme = not self._seen_readme, True
            return name == fmt.README and first
        match = fmt.PART.fullmatch(name)
        if match is None:
            return False
        while self._tables:
            if self._tables[0] == (match[1], match[2]) and int(match[3]) == self._number + 1:
                self._number += 1
                return True
            del self._tables[0]
            self._number = 0
        return False


def _header(file: Path, content: bytes) -> fmt.Header:
    # The number first: a later format may have other members.
    try:
        number = msgspec.json.decode(content)["format"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise _altered(file, fmt.HEADER) from None
    if number != fmt.FORMAT:
        raise CodelabError(f"{file}: its format {number!r} is unknown to this program; install a newer version")
    return _decoded(file, fmt.HEADER, content, fmt.Header)


def _decoded(file: Path, name: str, content: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _altered(file, name) from None


def _is_complete(manifest: fmt.Manifest) -> bool:
    told = {name: set(module.tables) for name, module in manifest.header.modules.items()}
    return told == {name: set(tables) for name, tables in manifest.tallies.items()}


def _altered(file: Path, name: str) -> CodelabError:
    return CodelabError(
        f"{file}: is no whole archive of codelab: {name} is not as it was written; nothing was imported"
    )


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say in one line what is wrong with a file."""
    try:
        yield
    except (tarfile.TarError, zstd.ZstdError, EOFError, UnicodeError) as error:
        raise CodelabError(f"{file}: is no whole archive of codelab: {error}; nothing was imported") from None
    except OSError as error:
        raise CodelabError(f"{file}: cannot be read: {error.strerror or error}") from None


def _members(file: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Give the name, size and content of each member; only plain files are taken."""
    with (
        _readable(file),
        zstd.open(file, "rb") as raw,
        tarfile.open(fileobj=raw, mode="r|", tarinfo=_Plain) as tar,
    ):
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            yield member.name, member.size, content
        # What follows the end of the tar belongs to it, or was added.
        while rest := raw.read(_CHUNK):
            if rest.strip(b"\x00"):
                raise _altered(file, "the end")


def _lines(name: str, content: IO[bytes]) -> Iterator[list[bytes]]:
    """Split a part into lines, about a MiB of them at a time."""
    rest: list[bytes] = []
    while chunk := content.read(BATCH_BYTES):
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*rest, lines[0]))
            rest = []
            yield lines
        if last:
            rest.append(last)
    if rest:
        raise CodelabError(f"{name}: its last line is cut")
