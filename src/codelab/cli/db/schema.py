"""``codelab db upgrade``, ``downgrade``, ``current`` and ``history``: the revisions of the schema."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from codelab.cli.db.common import (
    Report,
    env_file_option,
    json_option,
    load_installation,
    module_option,
    run,
    stores_of,
)
from codelab.db.migrate import print_migrations, revisions
from codelab.errors import StartError
from codelab.storage.schema import move_schema, read_revision

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("current", "downgrade", "history", "upgrade")

sql_option = click.option("--sql", is_flag=True, help="Print the SQL that would run, and run nothing.")


@click.command()
@click.argument("revision", default="head")
@module_option
@sql_option
@json_option
@env_file_option
def upgrade(revision: str, module: str, env_file: Path | None, *, sql: bool, as_json: bool) -> None:
    """Bring the schema to this version of codelab, or to REVISION; no server may run.

    `codelab serve` does it at its start too. All of it is one transaction: it is done, or nothing is changed.
    """
    run(_move(revision, module, env_file, Report(as_json), sql=sql, down=False))


@click.command()
@click.argument("revision")
@module_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@sql_option
@json_option
@env_file_option
def downgrade(revision: str, module: str, env_file: Path | None, *, yes: bool, sql: bool, as_json: bool) -> None:
    r"""Take the schema back to REVISION (`base` is before the first); no server may run.

    What newer tables and columns hold is lost: make a backup before. Revisions belong to one module, so name it.

    \b
    Example:
      codelab db downgrade agent_0001 --module agent
    """
    if module == "all" and revision != "base" and not revision.startswith("-"):
        raise click.UsageError("a revision belongs to one module: name it with --module")
    if not yes and not sql:
        if not sys.stdin.isatty():
            raise click.UsageError("a downgrade removes data; say --yes where nobody can be asked")
        click.confirm("What newer tables and columns hold will be lost. Go on?", abort=True)
    run(_move(revision, module, env_file, Report(as_json), sql=sql, down=True))


async def _move(revision: str, module: str, env_file: Path | None, report: Report, *, sql: bool, down: bool) -> int:
    installation = load_installation(env_file)
    done = []
    for store in stores_of(installation, module):
        schema = store.storage.schema
        if sql:
            now = await read_revision(store.url, schema)
            click.echo(print_migrations(schema, store.url.dialect, now, revision, down=down), nl=False)
            continue
        before, after = await move_schema(store.url, schema, revision, installation.settings.server.db_wait, down=down)
        told = f"{before or 'none'} -> {after or 'none'}" if before != after else f"{after or 'none'}, as it was"
        report.line(f"{store.module}: {told}")
        done.append({"module": store.module, "before": before, "after": after})
    if not sql:
        report.finish({"modules": done})
    return 0


@click.command()
@module_option
@json_option
@env_file_option
def current(module: str, env_file: Path | None, *, as_json: bool) -> None:
    """Show the revision of the schema."""
    run(_current(module, env_file, Report(as_json)))


async def _current(module: str, env_file: Path | None, report: Report) -> int:
    found = []
    failed = 0
    for store in stores_of(load_installation(env_file), module):
        head = revisions(store.storage.schema)[-1].id
        try:
            revision = await read_revision(store.url, store.storage.schema)
        except StartError as error:
            click.echo(f"codelab: {error}", err=True)
            failed = 1
            continue
        newest = ", the newest" if revision == head else f"; the newest is {head}"
        report.line(f"{store.module}: {revision or 'none'}{newest}")
        found.append({"module": store.module, "revision": revision, "head": head})
    report.finish({"modules": found})
    return failed


@click.command()
@module_option
@json_option
@env_file_option
def history(module: str, env_file: Path | None, *, as_json: bool) -> None:
    """List the revisions of the schema, the oldest first."""
    report = Report(as_json)
    listed = []
    for store in stores_of(load_installation(env_file), module):
        report.line(store.module, "bold")
        for step in revisions(store.storage.schema):
            report.line(f"  {step.id}  {step.meaning}")
            listed.append({"module": store.module, "revision": step.id, "before": step.down, "meaning": step.meaning})
    report.finish({"revisions": listed})
