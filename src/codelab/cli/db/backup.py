"""``codelab db backup`` and ``codelab db restore``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codelab.cli.db.common import (
    Report,
    env_file_option,
    json_option,
    load_installation,
    module_option,
    rows_progress,
    run,
    size_text,
    stores_of,
)
from codelab.errors import CodelabError, StartError
from codelab.storage.backup_files import key_fingerprint, read_backup

if TYPE_CHECKING:
    from codelab.installation import Installation
    from codelab.storage.backup_files import BackupManifest

__all__ = ("backup", "restore")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@module_option
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Remove all but the newest N of each module.")
@click.option("--portable", is_flag=True, help="Write the portable archive, which either database can take.")
@json_option
@env_file_option
def backup(
    folder: Path, module: str, keep: int | None, env_file: Path | None, *, portable: bool, as_json: bool
) -> None:
    r"""Back up while the server runs; each module as it is at one instant.

    SQLite is copied with its backup API, PostgreSQL with pg_dump where it is on PATH and not older than the server,
    else as the portable archive. A backup counts when it is verified and its manifest (FILE.json) is beside it.
    The key file of module auth is NOT in it: keep it elsewhere.

    \b
    Example:
      codelab db backup /srv/backups --keep 14
    """
    run(_backup(folder.absolute(), module, keep, env_file, Report(as_json), portable=portable))


async def _backup(
    folder: Path, module: str, keep: int | None, env_file: Path | None, report: Report, *, portable: bool
) -> int:
    from codelab.storage.backup import BackupPlan, back_up, forget_old, kind_for

    installation = load_installation(env_file)
    key_file = installation.settings.auth.key_encryption_key_file
    plans = []
    for store in stores_of(installation, module):
        kind, why = ("archive", None) if portable else await kind_for(store.url, shared=installation.shared)
        if why:
            report.line(f"{store.module}: as a portable archive, since {why}")
        fingerprint = await asyncio.to_thread(key_fingerprint, key_file) if store.module == "auth" else None
        plans.append(BackupPlan(store.url, store.storage.schema, kind, fingerprint))
    with rows_progress(quiet=report.as_json) as progress:
        made = await back_up(folder, plans, progress)
    gone = [note for one in made for note in (forget_old(folder, one.module, keep) if keep else ())]
    for one in made:
        rows = sum(one.counts.values())
        report.line(f"{one.module}: {folder / one.file}, {rows:,} rows, {size_text(one.bytes)}, verified", "bold")
    for note in gone:
        report.line(f"removed {note.with_suffix('')}")
    if any(one.module == "auth" for one in made):
        report.line(f"NOT included: {key_file} (AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE); keep it elsewhere", "yellow")
    report.finish(
        {
            "folder": str(folder),
            "backups": made,
            "removed": [str(note.with_suffix("")) for note in gone],
            "not_included": [str(key_file)] if any(one.module == "auth" for one in made) else [],
        }
    )
    return 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@module_option
@click.option("--without-key", is_flag=True, help="Go on without the key file it was made with; people log in again.")
@json_option
@env_file_option
def restore(file: Path, module: str, env_file: Path | None, *, without_key: bool, as_json: bool) -> None:
    r"""Take a backup back in the place of the module's data; no server may use it.

    It is verified in a new place before anything is changed. A SQLite file that is replaced is kept beside the new one.

    \b
    Example:
      codelab db restore /srv/backups/codelab-20261126T010000Z-agent.sqlite
    """
    run(_restore(file.absolute(), module, env_file, Report(as_json), without_key=without_key))


async def _restore(file: Path, module: str, env_file: Path | None, report: Report, *, without_key: bool) -> int:
    from codelab.storage.restore import restore as take_back

    installation = load_installation(env_file)
    data, manifest = await asyncio.to_thread(read_backup, file)
    if manifest.module not in installation.stores or module not in {"all", manifest.module}:
        raise CodelabError(f"{data}: is a backup of module {manifest.module}; nothing was changed")
    if not without_key:
        _refuse_without_key(installation, data, manifest)
    store = installation.stores[manifest.module]
    with rows_progress(quiet=report.as_json) as progress:
        done = await take_back(data, manifest, store.url, store.storage.schema, progress, shared=installation.shared)
    report.line(f"{manifest.module}: {sum(manifest.counts.values()):,} rows of {manifest.created_at} restored", "bold")
    if done.kept:
        report.line(f"the old database is kept as {done.kept}; remove it when it is not needed")
    report.finish({"module": manifest.module, "manifest": manifest, "kept": str(done.kept) if done.kept else None})
    return 0


def _refuse_without_key(installation: Installation, data: Path, manifest: BackupManifest) -> None:
    if manifest.key_fingerprint is None:
        return
    key_file = installation.settings.auth.key_encryption_key_file
    found = key_fingerprint(key_file)
    if found == manifest.key_fingerprint:
        return
    state = "is missing" if found is None else "is another"
    raise StartError(
        f"AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: {key_file} {state}, not the one with which {data.name} was made: its "
        "signing keys could not be used. Put the right file there, or go on with --without-key: people must then log "
        "in again."
    )
