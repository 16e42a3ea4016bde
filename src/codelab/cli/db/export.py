"""``codelab db export`` and ``codelab db import``: a file that either database can take."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import AsyncExitStack
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
    stores_of,
)
from codelab.cli.db.moving import document, nul_option, screened, tell_tables, telling_states
from codelab.errors import CodelabError, StartError
from codelab.text import reject_unstorable

if TYPE_CHECKING:
    from codelab.storage.load import Source

__all__ = ("export", "import_")

_file = click.argument("file", type=click.Path(path_type=Path))


@click.command()
@_file
@module_option
@click.option("--user", metavar="NAME", help="Only the data of this person.")
@click.option("--session", metavar="ID", help="Only this session; several people may have one with the same id.")
@nul_option
@env_file_option
@json_option
def export(
    file: Path,
    module: str,
    user: str | None,
    session: str | None,
    nul: str,
    env_file: Path | None,
    *,
    as_json: bool,
) -> None:
    r"""Write everything, one person or one session to a portable file.

    The file is a tar with JSON Lines, compressed with Zstandard; its README.txt tells how to read it without codelab.
    It is as secret as the databases. A server may go on meanwhile.

    \b
    Examples:
      codelab db export codelab.tar.zst
      codelab db export ada.tar.zst --user ada
    """
    run(_export(file.absolute(), module, user, session, nul, env_file, Report(as_json)))


async def _export(
    file: Path, module: str, user: str | None, session: str | None, nul: str, env_file: Path | None, report: Report
) -> int:
    from codelab.storage.archive import write_archive
    from codelab.storage.person import find_person, select_rows
    from codelab.storage.snapshot import open_snapshot

    reject_unstorable(user, "--user")
    reject_unstorable(session, "--session")
    installation = load_installation(env_file)
    people = installation.people
    person = await find_person(people.url, people.storage, user) if user is not None else None
    selection = {name: value for name, value in (("user", user), ("session", session)) if value is not None}
    async with AsyncExitStack() as stack:
        sources: dict[str, Source] = {}
        for store in stores_of(installation, module):
            if session is not None and store.storage.session_root is None:
                continue
            snapshot = await stack.enter_async_context(open_snapshot(store.url, store.storage.schema))
            if selection:
                await select_rows(snapshot, store.storage, person=person, session=session)
            await screened(snapshot, nul, report, limits=False)
            await snapshot.count()
            sources[store.module] = snapshot
        if not sources:
            raise StartError("--session: sessions are in module agent.")
        try:
            with rows_progress(quiet=report.as_json) as progress:
                manifest = await write_archive(file, sources, selection=selection or None, progress=progress)
        except asyncio.CancelledError:
            click.echo(f"codelab: stopped; {file} was not written", err=True)
            raise
    size = (await asyncio.to_thread(file.stat)).st_size
    report.finish({"file": str(file), "bytes": size, "selection": selection or None, "modules": manifest.tallies})
    for name, tallies in manifest.tallies.items():
        report.line(f"{name}: {sum(tally.rows for tally in tallies.values()):,} rows", "bold")
        tell_tables(report, tallies)
    report.line(f"{file}: {size:,} bytes")
    return 0


@click.command(name="import")
@_file
@module_option
@click.option("--replace", is_flag=True, help="Drop the module's tables that are in the database.")
@env_file_option
@json_option
def import_(file: Path, module: str, env_file: Path | None, *, replace: bool, as_json: bool) -> None:
    r"""Read a file that `codelab db export` wrote into the databases, and verify every table.

    Every part of it is checked before anything is written. The databases are empty, or --replace; an archive of one
    person or session is no exception.

    \b
    Example:
      AUTH_SERVICE__DB_URL=postgresql://codelab@db/auth_db codelab db import codelab.tar.zst --module auth
    """
    run(_import(file.absolute(), module, env_file, Report(as_json), replace=replace))


async def _import(file: Path, module: str, env_file: Path | None, report: Report, *, replace: bool) -> int:
    from codelab.storage.archive_reader import ArchivedModule, read_manifest
    from codelab.storage.load import Job, load

    installation = load_installation(env_file)
    with rows_progress(quiet=report.as_json) as progress:
        # In a thread, so that Ctrl-C is noticed.
        manifest = await asyncio.to_thread(read_manifest, file, progress)
    if unknown := sorted(set(manifest.header.modules) - set(installation.stores)):
        raise CodelabError(f"{file}: holds a module that this program does not know: {unknown[0]}")
    jobs = []
    for store in stores_of(installation, module):
        if store.module not in manifest.header.modules:
            continue
        command = ["codelab", "db", "import", str(file), "--module", store.module, *["--replace"] * replace]
        jobs.append(
            Job(
                schema=store.storage.schema,
                source=ArchivedModule(file, manifest, store.module),
                url=store.url,
                operation=f"an import of {file.name}",
                remedy=f"Run it again: {shlex.join(command)}",
                replace=replace,
            )
        )
    if not jobs:
        raise CodelabError(f"{file}: holds nothing of module {module}")
    with telling_states(jobs), rows_progress(quiet=report.as_json) as progress:
        await load(jobs, progress)
    report.finish(
        {
            "file": str(file),
            "selection": manifest.header.selection,
            "modules": {j.schema.module: document(j) for j in jobs},
        }
    )
    for job in jobs:
        rows = sum(digest.rows for digest in job.digests.values())
        report.line(f"{job.schema.module}: {rows:,} rows imported and verified in {job.seconds:.1f} s", "bold")
        tell_tables(report, {name: digest.tally for name, digest in job.digests.items()})
    return 0
