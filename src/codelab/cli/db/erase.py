"""``codelab db erase``: one person's data, for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from codelab.cli.db.common import Report, env_file_option, json_option, load_installation, run
from codelab.errors import StartError
from codelab.text import reject_unstorable

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.installation import Installation
    from codelab.storage.erase import Erased

__all__ = ("erase",)


@click.command()
@click.option("--user", required=True, metavar="NAME", help="Whose data.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@env_file_option
@json_option
def erase(user: str, env_file: Path | None, *, yes: bool, as_json: bool) -> None:
    r"""Remove a person's account, sessions and tokens for good, also while a server runs.

    The audit trail keeps that something happened, not to whom, and says that the data was removed. Backups and
    archives that were made before still hold it.

    \b
    Example:
      codelab db erase --user ada
    """
    run(_erase(user, env_file, Report(as_json), yes=yes))


async def _erase(user: str, env_file: Path | None, report: Report, *, yes: bool) -> int:
    from codelab.storage.person import find_person

    reject_unstorable(user, "--user")
    installation = load_installation(env_file)
    people = installation.people
    person = await find_person(people.url, people.storage, user)
    if not yes and not sys.stdin.isatty():
        raise StartError("erase: there is nobody to ask here; say --yes.")
    # What cannot be done in one module must not be half done in another.
    planned = await _each(installation, person, dry_run=True)
    if not yes:
        rows = sum(sum(erased.rows.values()) for erased in planned.values())
        click.confirm(f"Remove {user!r} ({person}) and {rows:,} rows for good?", abort=True, err=True)
    done = await _each(installation, person, dry_run=False)
    report.finish({"user_id": person, "modules": done})
    for name, erased in done.items():
        url = installation.stores[name].url
        rows = sum(erased.rows.values())
        report.line(f"{name}: {rows:,} rows removed, {erased.emptied:,} rows of the audit trail emptied", "bold")
        for table, count in erased.rows.items():
            report.line(f"  {table}: {count:,}")
        if url.dialect == "postgresql":
            report.line("  PostgreSQL frees their place when it vacuums; its logs and replicas may keep them longer.")
        elif not erased.overwritten:
            report.line("  A reader still used the old rows: run `codelab db vacuum` so that no copy stays in the log.")
    return 0


async def _each(installation: Installation, person: str, *, dry_run: bool) -> dict[str, Erased]:
    """Go through the modules; the one that knows the name is last, so that the command can be run again."""
    from codelab.storage.erase import erase as erase_rows

    done = {}
    for store in sorted(installation.stores.values(), key=lambda store: store is installation.people):
        database = store.open()
        try:
            done[store.module] = await erase_rows(database, store.storage, person, dry_run=dry_run)
        finally:
            await database.stop()
    return done
