"""Take a backup back: proven in a new place first, then put in the place of the old data at one instant."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from codelab.db.engine import create_engine
from codelab.db.faults import FAILURES, reason
from codelab.db.migrate import refuse_newer, upgrade
from codelab.db.serving import hold_alone
from codelab.errors import CodelabError, StartError
from codelab.storage.archive_reader import ArchivedModule, read_manifest
from codelab.storage.backup_files import sha256_of, sync, write_private
from codelab.storage.load import Job, load
from codelab.storage.pg_programs import programs_fit, prove_dump, restore_dump
from codelab.storage.sqlite_file import copy_file, prove_file, swap_file

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl
    from codelab.storage.backup_files import BackupManifest
    from codelab.storage.load import Progress

__all__ = ("Restored", "restore")


@dataclass(frozen=True)
class Restored:
    """What became of the old data: ``kept`` is where it is, None when there was none or it was replaced."""

    kept: Path | None = None


async def restore(
    file: Path, manifest: BackupManifest, url: DatabaseUrl, schema: ModuleSchema, progress: Progress, *, shared: bool
) -> Restored:
    """Put a backup, which ``read_backup`` found whole, in the place of a module's data.

    Raises:
        StartError: a server uses the data, or the backup is a newer program's or another database's.
        CodelabError: the backup is not whole, or the old data cannot be replaced; nothing was changed.
    """
    where = f"{url.variable} ({url.masked})"
    refuse_newer(manifest.revision, schema, str(file))
    _refuse_other_kind(file, manifest, url, where, shared=shared)
    if manifest.kind == "archive":
        return await _load_archive(file, manifest, url, schema, progress)
    if url.path is not None and manifest.kind == "sqlite":
        await asyncio.to_thread(url.path.parent.mkdir, parents=True, exist_ok=True)
    async with hold_alone(url, schema.module, "a restore"):
        if manifest.kind == "sqlite":
            return await _swap(file, manifest, url, schema, progress)
        if why := await programs_fit(url):
            raise StartError(f"{file}: {why}, and only pg_restore can read it.")
        progress.begin(f"{schema.module}: pg_restore", None)
        await prove_dump(file, list(manifest.counts))
        await restore_dump(url, schema, file, manifest.counts)
        await _bring_to_head(url, schema)
        return Restored()


def _refuse_other_kind(file: Path, manifest: BackupManifest, url: DatabaseUrl, where: str, *, shared: bool) -> None:
    if manifest.kind == "archive":
        return
    ours = "sqlite" if url.path is not None else "pg_dump"
    if manifest.kind != ours:
        way = (
            f"codelab db copy --from sqlite:///{file} --module {manifest.module} reads it"
            if manifest.kind == "sqlite"
            else "restore it into PostgreSQL, then use codelab db copy"
        )
        raise StartError(f"{file}: is a backup of another kind of database than {where}; {way}.")
    if shared and manifest.kind == "sqlite":
        raise StartError(
            f"{where}: both modules are in this file, and the backup is a file of module {manifest.module} alone; "
            f"codelab db copy --from sqlite:///{file} --module {manifest.module} --replace takes its rows."
        )


async def _load_archive(
    file: Path, manifest: BackupManifest, url: DatabaseUrl, schema: ModuleSchema, progress: Progress
) -> Restored:
    contents = await asyncio.to_thread(read_manifest, file, progress)
    if schema.module not in contents.header.modules:
        raise CodelabError(f"{file}: holds nothing of module {schema.module}; nothing was changed")
    command = ["codelab", "db", "restore", str(file), "--module", schema.module]
    source = ArchivedModule(file, contents, schema.module)
    operation = f"a restore of {manifest.file}"
    remedy = f"Run it again: {shlex.join(command)}"
    await load([Job(schema, source, url, operation, remedy, replace=True)], progress)
    return Restored()


async def _swap(
    file: Path, manifest: BackupManifest, url: DatabaseUrl, schema: ModuleSchema, progress: Progress
) -> Restored:
    place = url.path
    assert place is not None
    new = place.with_name(f".{place.name}.restoring")
    kept = place.with_name(f"{place.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    work = [new.with_name(f"{new.name}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
    try:
        for path in work:  # what a restore that was killed left
            path.unlink(missing_ok=True)
        progress.begin(f"{schema.module}: copy and check", None)
        write_private(new)
        await asyncio.to_thread(shutil.copyfile, file, new)
        if await asyncio.to_thread(sha256_of, new) != manifest.sha256:
            raise CodelabError(f"{file}: changed while it was read; nothing was changed")
        revision, counts = await asyncio.to_thread(prove_file, new, schema)
        if (revision, counts) != (manifest.revision, manifest.counts):
            raise CodelabError(f"{file}: does not hold what its manifest tells; nothing was changed")
        await _bring_to_head(replace(url, path=new), schema)
        ready = work[0].with_name(f"{new.name}-ready")
        work.append(ready)
        ready.unlink(missing_ok=True)
        write_private(ready)
        # The migrations left it in WAL mode; a copy is one file alone again.
        await asyncio.to_thread(copy_file, new, ready, f"{schema.module}: pages", progress)
        await asyncio.to_thread(sync, ready)
        there = await asyncio.to_thread(swap_file, ready, place, kept)
    except OSError as error:
        raise CodelabError(f"{error.filename or place}: {error.strerror or error}; nothing was changed") from None
    finally:
        for path in work:
            path.unlink(missing_ok=True)
    return Restored(kept if there else None)


async def _bring_to_head(url: DatabaseUrl, schema: ModuleSchema) -> None:
    engine = create_engine(url, f"codelab.{schema.module}.restore", migrating=True)
    try:
        await upgrade(engine, schema, masked=url.masked)
    except FAILURES as error:
        raise StartError(f"{url.variable} ({url.masked}): cannot be migrated: {reason(error)}.") from None
    finally:
        await engine.dispose()
