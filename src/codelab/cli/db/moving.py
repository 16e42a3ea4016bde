"""What ``copy``, ``export`` and ``import`` share: rows that cannot be moved, and how the outcome is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import click

from codelab.errors import CodelabError, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from codelab.cli.db.common import Report
    from codelab.storage.digest import Tally
    from codelab.storage.load import Job
    from codelab.storage.screen import Unportable
    from codelab.storage.snapshot import Snapshot

__all__ = ("document", "nul_option", "screened", "tell_tables", "telling_states")

#: Rows that are named to a person; programs get all.
SHOWN = 20

nul_option = click.option(
    "--nul",
    type=click.Choice(("fail", "replace")),
    default="fail",
    show_default=True,
    help="What to do with text that PostgreSQL cannot hold (U+0000, no UTF-8); `replace` puts U+FFFD in its place.",
)


async def screened(snapshot: Snapshot, nul: str, report: Report, *, limits: bool) -> list[Unportable]:
    """Look for rows that cannot be moved; return those whose text will be replaced.

    Raises:
        CodelabError: there are such rows, and they may not be replaced or cannot be.
    """
    from codelab.storage.screen import screen

    found = await screen(snapshot, limits=limits)
    if not found:
        return []
    lost = [item for item in found if nul == "fail" or not item.replaceable]
    for item in (lost or found)[:SHOWN]:
        click.echo(f"{snapshot.schema.module}: {item}", err=True)
    if len(lost or found) > SHOWN:
        click.echo(f"{snapshot.schema.module}: … and {len(lost or found) - SHOWN} more", err=True)
    if lost:
        report.finish({"unportable": [{"module": snapshot.schema.module, **_as_dict(item)} for item in lost]})
        remedy = "; --nul replace puts U+FFFD in its place" if all(item.replaceable for item in lost) else ""
        raise CodelabError(f"{len(lost)} values cannot be moved{remedy}. Nothing was written.")
    snapshot.rows.scrubbed = {item.table for item in found}
    report.line(f"{snapshot.schema.module}: U+FFFD takes the place of what cannot be moved in {len(found)} values")
    return found


def _as_dict(item: Unportable) -> dict[str, Any]:
    return {"table": item.table, "key": item.key, "column": item.column, "reason": item.reason}


@contextlib.contextmanager
def telling_states(jobs: Sequence[Job]) -> Iterator[None]:
    """Say after an error or Ctrl-C in which state each target is."""
    try:
        yield
    except (StartError, CodelabError, asyncio.CancelledError):
        for job in jobs:
            state = "is as it was"
            if job.done:
                state = "is complete and verified"
            elif job.marked:
                state = f"is not whole, and no server starts on it. {job.remedy}"
            click.echo(f"{job.schema.module}: {job.url.masked} {state}", err=True)
        raise


def document(job: Job, replaced: Sequence[Unportable] = ()) -> dict[str, Any]:
    """Describe one module's outcome for programs."""
    return {
        "revision": job.source.revision,
        "to": job.url.masked,
        "tables": {name: {"rows": found.rows, "digest": found.hex} for name, found in job.digests.items()},
        "replaced": [_as_dict(item) for item in replaced],
        "seconds": round(job.seconds, 3),
    }


def tell_tables(report: Report, tallies: Mapping[str, Tally]) -> None:
    """Print rows and the first digits of the digest of each table."""
    width = max(map(len, tallies), default=0)
    for name, tally in tallies.items():
        report.line(f"  {name:{width}}  {tally.rows:>12,}  {tally.digest[:16]}")
