"""``codelab db status``: where the data is, how much, and its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codelab.cli.db.common import (
    Report,
    env_file_option,
    json_option,
    load_installation,
    module_option,
    run,
    size_text,
    stores_of,
)
from codelab.storage.status import look

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.storage.status import ModuleStatus

__all__ = ("status",)


@click.command()
@module_option
@click.option("--estimate", is_flag=True, help="On PostgreSQL show the planner's numbers of rows instead of counting.")
@json_option
@env_file_option
def status(module: str, env_file: Path | None, *, estimate: bool, as_json: bool) -> None:
    """Show where the data is, how much there is, and the state of its schema. Nothing is changed.

    Exit code 1 when a database cannot be reached; the others are still shown.
    """
    run(_show(module, env_file, estimate=estimate, as_json=as_json))


async def _show(module: str, env_file: Path | None, *, estimate: bool, as_json: bool) -> int:
    installation = load_installation(env_file)
    report = Report(as_json)
    found = [
        await look(store.url, store.storage.schema, estimate=estimate) for store in stores_of(installation, module)
    ]
    for one in found:
        _tell(report, one)
    report.finish({"modules": found})
    return 1 if any(one.unreachable for one in found) else 0


def _tell(report: Report, one: ModuleStatus) -> None:
    report.line(f"{one.module}", "bold")
    report.line(f"  {one.variable}  {one.url}")
    if one.unreachable:
        report.line(f"  cannot be reached: {one.unreachable}", "red")
        return
    size = size_text(one.size or 0) + (f", WAL {size_text(one.wal_size)}" if one.wal_size is not None else "")
    report.line(f"  {one.server_version}, {size}, {'served now' if one.served else 'not served now'}")
    report.line(f"  schema {one.revision or 'none'}, newest {one.head}, {len(one.pending)} pending")
    report.line(f"  ready: {'yes' if one.ready else f'no, {one.problem}'}", "" if one.ready else "yellow")
    for table, rows in one.tables.items():
        report.line(f"  {table:<22}{rows:>14,}{' (estimate)' if one.estimated else ''}")
