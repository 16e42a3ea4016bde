"""``codelab db copy``: everything of one database into another, verified."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from codelab.cli.db.common import Report, json_option, rows_progress, run
from codelab.cli.db.moving import document, nul_option, screened, tell_tables, telling_states
from codelab.errors import StartError

if TYPE_CHECKING:
    from codelab.db import DatabaseUrl
    from codelab.storage.load import Job
    from codelab.storage.screen import Unportable

__all__ = ("copy",)


@click.command()
@click.option("--from", "source", required=True, metavar="URL", help="The database to read; a server may use it.")
@click.option("--to", "target", required=True, metavar="URL", help="The database to fill; it is empty, or --replace.")
@click.option(
    "--module",
    type=click.Choice(("agent", "auth", "all")),
    help="Which module's tables; by default those that are in the source.",
)
@click.option("--replace", is_flag=True, help="Drop the module's tables that are in the target.")
@nul_option
@json_option
def copy(source: str, target: str, module: str | None, nul: str, *, replace: bool, as_json: bool) -> None:
    r"""Copy a database to another one, SQLite or PostgreSQL, and verify every table.

    What is copied is the state of one instant, also while a server writes. The target is complete and verified in the
    end, or as it was. Values arrive exactly: a digest of every table is computed on both sides.

    \b
    Examples:
      codelab db copy --from sqlite:///data/auth.db --to postgresql://codelab@db/auth_db
      codelab db copy --from postgresql://codelab@db/agent_runtime --to sqlite:///agent.db
    """
    run(_copy(source, target, module, nul, Report(as_json), replace=replace))


async def _copy(source: str, target: str, module: str | None, nul: str, report: Report, *, replace: bool) -> int:
    from codelab.db import parse_url
    from codelab.installation import MODULES
    from codelab.storage.load import Job, load
    from codelab.storage.same import refuse_same
    from codelab.storage.snapshot import open_snapshot

    origin, goal = parse_url(source, "--from"), parse_url(target, "--to")
    async with AsyncExitStack() as stack:
        jobs: list[Job] = []
        replaced: dict[str, list[Unportable]] = {}
        for name in await _modules(origin, module):
            snapshot = await stack.enter_async_context(open_snapshot(origin, MODULES[name].schema))
            await refuse_same(snapshot, goal)
            replaced[name] = await screened(snapshot, nul, report, limits=goal.dialect == "postgresql")
            await snapshot.count()
            command = ["codelab", "db", "copy", "--from", origin.masked, "--to", goal.masked, "--module", name]
            command += ["--replace"] * replace + ["--nul", "replace"] * (nul == "replace")
            jobs.append(
                Job(
                    schema=MODULES[name].schema,
                    source=snapshot,
                    url=goal,
                    operation=f"a copy from {origin.masked}",
                    remedy=f"Run it again: {shlex.join(command)}",
                    replace=replace,
                )
            )
        with telling_states(jobs), rows_progress(quiet=report.as_json) as progress:
            await load(jobs, progress)
    report.finish(
        {"from": origin.masked, "modules": {j.schema.module: document(j, replaced[j.schema.module]) for j in jobs}}
    )
    for job in jobs:
        rows = sum(digest.rows for digest in job.digests.values())
        rate = f"{rows / job.seconds:,.0f} rows/s" if job.seconds else ""
        report.line(f"{job.schema.module}: {rows:,} rows copied and verified in {job.seconds:.1f} s, {rate}", "bold")
        tell_tables(report, {name: digest.tally for name, digest in job.digests.items()})
        report.line(f"Set {job.schema.variable} to the new URL to use it.")
    return 0


async def _modules(origin: DatabaseUrl, module: str | None) -> list[str]:
    """Name the modules to copy, in the order of the installation."""
    from sqlalchemy import inspect

    from codelab.installation import MODULES
    from codelab.storage.rows import open_rows

    if module in MODULES:
        return [module]
    async with open_rows(origin, writing=False) as rows, rows.transaction():
        there = await rows.call(lambda connection: set(inspect(connection).get_table_names()))
    found = [name for name, storage in MODULES.items() if module == "all" or storage.schema.version_table in there]
    if not found:
        raise StartError(f"{origin.variable} ({origin.masked}): it has no tables of codelab.")
    return found
