"""``codelab audit verify``: prove that the audit trails are what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from codelab.cli.db.common import (
    Report,
    env_file_option,
    json_option,
    load_installation,
    module_option,
    run,
    stores_of,
)
from codelab.storage import Finding
from codelab.storage.trail import verify_trail

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("verify",)


class _Verified(msgspec.Struct):
    """What was found in the trail of one module."""

    module: str
    whole: bool
    rows: int
    findings: list[Finding]


@click.command()
@module_option
@json_option
@env_file_option
def verify(module: str, env_file: Path | None, *, as_json: bool) -> None:
    """Prove that no row of the audit trails was changed, removed, moved, cut off or put in.

    Rows whose payload was erased and rows that were pruned are proven too. Exit code 1 when there are faults, which
    name the rows; notes are no faults.
    """
    run(_verify(module, env_file, as_json=as_json))


async def _verify(module: str, env_file: Path | None, *, as_json: bool) -> int:
    report = Report(as_json)
    results = []
    for store in stores_of(load_installation(env_file), module):
        rows, findings = await verify_trail(store.url, store.storage)
        whole = not any(finding.severity == "fault" for finding in findings)
        results.append(_Verified(store.module, whole, rows, findings))
    for result in results:
        state = "whole" if result.whole else "NOT WHOLE"
        report.line(f"{result.module}: {result.rows:,} rows, {state}", "bold" if result.whole else "bold red")
        for finding in result.findings:
            report.line(f"  {finding.severity}: {finding.detail}")
            for row in finding.rows:
                report.line(f"    {row}")
    every = all(result.whole for result in results)
    report.finish({"whole": every, "modules": results})
    return 0 if every else 1
