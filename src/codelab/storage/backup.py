"""Back up modules while a server runs: each from one instant, verified before it counts as a backup."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from codelab import __version__
from codelab.db.faults import FAILURES, reason
from codelab.errors import CodelabError, StartError
from codelab.storage.archive import write_archive
from codelab.storage.archive_reader import read_manifest
from codelab.storage.backup_files import BackupManifest, complete_backups, sha256_of, sync, write_private
from codelab.storage.pg_programs import dump, programs_fit, prove_dump
from codelab.storage.snapshot import open_snapshot
from codelab.storage.sqlite_file import copy_file, prove_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl
    from codelab.storage.load import Progress

__all__ = ("BackupPlan", "back_up", "forget_old", "kind_for")

Kind = Literal["sqlite", "pg_dump", "archive"]
_ENDINGS: dict[Kind, str] = {"sqlite": "sqlite", "pg_dump": "pgdump", "archive": "tar.zst"}


@dataclass(frozen=True)
class BackupPlan:
    """One module's data, how it is backed up, and the fingerprint of the key file that belongs to it."""

    url: DatabaseUrl
    schema: ModuleSchema
    kind: Kind
    key_fingerprint: str | None = None


async def kind_for(url: DatabaseUrl, *, shared: bool) -> tuple[Kind, str | None]:
    """Choose the form of a backup, and say why it is not the database's own where it is not.

    A SQLite file with both modules (``shared``) is none of one module's.

    Raises:
        StartError: the database cannot be reached.
    """
    if url.path is not None:
        return ("archive", "both modules are in one file") if shared else ("sqlite", None)
    try:
        why = await programs_fit(url)
    except FAILURES as error:
        raise StartError(f"{url.variable} ({url.masked}): {reason(error)}.") from None
    return ("archive", why) if why else ("pg_dump", None)


async def back_up(folder: Path, plans: Sequence[BackupPlan], progress: Progress) -> list[BackupManifest]:
    """Write one backup of each plan into a folder, as one set: all are verified before the first gets its name.

    Raises:
        StartError: a database cannot be used.
        CodelabError: a backup cannot be written, or is not whole.
    """
    at = datetime.now(UTC).replace(microsecond=0)
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        names = [_free_name(folder, plan, at) for plan in plans]
        partial = [folder / f".{name}.partial" for name in names]
        try:
            made = []
            for file in partial:
                file.unlink(missing_ok=True)
            for plan, name, file in zip(plans, names, partial, strict=True):
                made.append(await _write(plan, name, file, at, progress))
            await asyncio.to_thread(_publish, folder, made, partial)
        finally:
            for file in partial:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise CodelabError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return made


def _free_name(folder: Path, plan: BackupPlan, at: datetime) -> str:
    stem, number = f"codelab-{at:%Y%m%dT%H%M%SZ}-{plan.schema.module}", 1
    while True:
        name = f"{stem}{f'-{number}' if number > 1 else ''}.{_ENDINGS[plan.kind]}"
        if not (folder / name).exists():
            return name
        number += 1


async def _write(plan: BackupPlan, name: str, file: Path, at: datetime, progress: Progress) -> BackupManifest:
    schema, url = plan.schema, plan.url
    try:
        if plan.kind == "sqlite":
            assert url.path is not None
            if not url.path.exists():
                raise StartError(f"{url.variable} ({url.masked}): there is no file {url.path}.")
            write_private(file)
            await asyncio.to_thread(copy_file, url.path, file, f"{schema.module}: pages", progress)
            revision, counts = await asyncio.to_thread(prove_file, file, schema)
        elif plan.kind == "pg_dump":
            progress.begin(f"{schema.module}: pg_dump", None)
            write_private(file)
            revision, counts = await dump(url, schema, file)
            await prove_dump(file, list(counts))
        else:
            async with open_snapshot(url, schema) as snapshot:
                await snapshot.count()
                written = await write_archive(file, {schema.module: snapshot}, progress=progress)
            if await asyncio.to_thread(read_manifest, file, progress) != written:
                raise CodelabError(f"{file}: is not as it was written")
            revision = snapshot.revision
            counts = {table: tally.rows for table, tally in written.tallies[schema.module].items()}
    except FAILURES as error:
        raise StartError(f"{url.variable} ({url.masked}): cannot be backed up: {reason(error)}.") from None
    size, digest = await asyncio.to_thread(_settle, file)
    return BackupManifest(
        module=schema.module,
        kind=plan.kind,
        file=name,
        bytes=size,
        sha256=digest,
        revision=revision,
        counts=counts,
        created_at=at,
        codelab=__version__,
        key_fingerprint=plan.key_fingerprint,
    )


def _settle(file: Path) -> tuple[int, str]:
    sync(file)
    return file.stat().st_size, sha256_of(file)


def _publish(folder: Path, made: Sequence[BackupManifest], partial: Sequence[Path]) -> None:
    for manifest, file in zip(made, partial, strict=True):
        file.replace(folder / manifest.file)
    for manifest in made:
        note = folder / f"{manifest.file}.json"
        unfinished = folder / f".{note.name}.partial"
        unfinished.unlink(missing_ok=True)
        write_private(unfinished, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        sync(unfinished)
        unfinished.replace(note)
    sync(folder)


def forget_old(folder: Path, module: str, keep: int) -> list[Path]:
    """Remove the oldest complete backups of a module, so that ``keep`` are left; return their manifests.

    Raises:
        CodelabError: one cannot be removed.
    """
    old = complete_backups(folder, module)[:-keep]
    try:
        for note in old:
            note.unlink()  # first: a file without it is no backup
            with contextlib.suppress(FileNotFoundError):
                note.with_suffix("").unlink()
    except OSError as error:
        raise CodelabError(f"{error.filename}: an old backup cannot be removed: {error.strerror}") from None
    return old
