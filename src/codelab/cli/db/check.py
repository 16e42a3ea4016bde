"""``codelab db check``: prove that the data is whole."""

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
    stores_of,
)
from codelab.storage.check import check as check_module
from codelab.storage.check import mend

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.installation import Store
    from codelab.storage.check import Checked

__all__ = ("check",)


@click.command()
@module_option
@click.option("--repair", is_flag=True, help="Mend what is safe, then check again. No server may run meanwhile.")
@json_option
@env_file_option
def check(module: str, env_file: Path | None, *, repair: bool, as_json: bool) -> None:
    """Prove that the data is whole: pages, references, schema, and the rules that its rows keep.

    It reads one snapshot, beside a running server too. Exit code 1 when there are faults; notes are no faults.
    """
    run(_check(module, env_file, repair=repair, as_json=as_json))


async def _check(module: str, env_file: Path | None, *, repair: bool, as_json: bool) -> int:
    installation = load_installation(env_file)
    report = Report(as_json)
    results = [await _check_store(store, repair=repair) for store in stores_of(installation, module)]
    for result in results:
        _tell(report, result)
    whole = all(result.whole for result in results)
    report.finish({"whole": whole, "modules": results})
    return 0 if whole else 1


async def _check_store(store: Store, *, repair: bool) -> Checked:
    result = await check_module(store.url, store.storage)
    if repair and any(finding.repairable for finding in result.findings):
        mended = await mend(store.url, store.storage)
        result = await check_module(store.url, store.storage)
        result.mended = mended
    return result


def _tell(report: Report, result: Checked) -> None:
    report.line(f"{result.module}: {'whole' if result.whole else 'NOT WHOLE'}", "bold" if result.whole else "bold red")
    for sentence in result.mended:
        report.line(f"  mended: {sentence}")
    for finding in result.findings:
        repairable = " (--repair mends it)" if finding.repairable else ""
        report.line(f"  {finding.severity}: {finding.check}: {finding.detail}{repairable}")
        for row in finding.rows:
            report.line(f"    {row}")
