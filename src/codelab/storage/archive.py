"""Write a portable archive: a tar compressed with Zstandard, in one pass and in constant memory."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tarfile
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from codelab import __version__
from codelab.errors import CodelabError
from codelab.storage import archive_format as fmt
from codelab.storage.digest import TableDigest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO, Self

    from codelab.storage.digest import Tally
    from codelab.storage.load import Progress, Source
    from codelab.storage.values import Batch

__all__ = ("write_archive",)

#: Bytes of a part, since tar wants to know the size of a member before its content. A larger row is a part alone.
PART_BYTES = 4 << 20
#: The check sum that finds a flipped bit, and room for the long repetitions that transcripts have.
_OPTIONS: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}


async def write_archive(
    file: Path,
    sources: Mapping[str, Source],
    *,
    selection: dict[str, str] | None = None,
    progress: Progress,
) -> fmt.Manifest:
    """Write what the sources give, by module, to ``file``, which is there only when it is complete.

    Raises:
        CodelabError: the file cannot be written, or is there already.
    """
    header = fmt.Header(
        format=fmt.FORMAT,
        codelab=__version__,
        created_at=datetime.now(UTC),
        selection=selection,
        modules={name: fmt.ModuleHeader.of(source.revision, list(source.tables)) for name, source in sources.items()},
    )
    with _appearing(file) as opened, _Members.into(opened, header.created_at) as members:
        members.add(fmt.README, fmt.README_TEXT.encode())
        members.add(fmt.HEADER, fmt.pretty(header))
        tallies: dict[str, dict[str, Tally]] = {}
        for module, source in sources.items():
            tallies[module] = {}
            for table in source.tables:
                progress.begin(f"{module}: {table.name}", source.counts.get(table.name))
                digest = await _write_table(members, module, table.name, source.read(table), progress)
                tallies[module][table.name] = digest.tally
        manifest = fmt.Manifest(header=header, tallies=tallies)
        members.add(fmt.MANIFEST, fmt.pretty(manifest))
        members.add(fmt.SUMS, members.sums())
    return manifest


async def _write_table(
    members: _Members, module: str, table: str, batches: AsyncIterator[Batch], progress: Progress
) -> TableDigest:
    digest = TableDigest()
    part: list[bytes] = []
    size = number = 0
    async for batch in batches:
        digest.add(batch.lines)
        for line in batch.lines:
            if part and size + len(line) >= PART_BYTES:
                number += 1
                members.add_lines(fmt.part_name(module, table, number), part)
                part, size = [], 0
            part.append(line)
            size += len(line) + 1
        progress.advance(len(batch.lines))
    if part:
        members.add_lines(fmt.part_name(module, table, number + 1), part)
    return digest


class _Members:
    """Write members to a tar, and remember the hash of each."""

    def __init__(self, tar: tarfile.TarFile, made: datetime) -> None:
        self._tar = tar
        self._made = int(made.timestamp())
        self._sums: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def into(cls, file: BinaryIO, made: datetime) -> Iterator[Self]:
        """Write to an open file; ``made`` is the time of every member."""
        with (
            zstd.ZstdFile(file, "wb", options=_OPTIONS) as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            yield cls(tar, made)

    def add_lines(self, name: str, lines: list[bytes]) -> None:
        """Write a member of lines."""
        lines.append(b"")
        self.add(name, b"\n".join(lines))

    def add(self, name: str, content: bytes) -> None:
        """Write a member."""
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, self._made
        self._tar.addfile(member, io.BytesIO(content))
        self._sums.append(f"{sha256(content).hexdigest()}  {name}\n")

    def sums(self) -> bytes:
        """Give the hashes in the form that ``sha256sum -c`` reads."""
        return "".join(self._sums).encode()


@contextlib.contextmanager
def _appearing(file: Path) -> Iterator[BinaryIO]:
    """Open a file of another name beside ``file`` that becomes it at the end, and is gone after an error."""
    if file.exists():
        raise CodelabError(f"{file}: is there already; name another file")
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        # What it holds is as secret as the database.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:  # noqa: PTH123 - a descriptor, for the mode
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        raise CodelabError(f"{file}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; Windows cannot open folders, and needs no such thing."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
