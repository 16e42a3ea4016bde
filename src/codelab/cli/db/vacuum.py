"""``codelab db vacuum``: give space back."""

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
from codelab.storage.vacuum import vacuum as vacuum_module

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("vacuum",)


@click.command()
@module_option
@click.option("--force", is_flag=True, help="On SQLite go on beside a server, whose writers wait meanwhile.")
@json_option
@env_file_option
def vacuum(module: str, env_file: Path | None, *, force: bool, as_json: bool) -> None:
    """Give space that is no longer used back.

    A SQLite file is written anew, for which up to twice its size must be free, and no server may run. PostgreSQL's
    VACUUM (ANALYZE) runs beside a server, on codelab's own tables; new rows then fill the space.
    """
    run(_vacuum(module, env_file, Report(as_json), force=force))


async def _vacuum(module: str, env_file: Path | None, report: Report, *, force: bool) -> int:
    installation = load_installation(env_file)
    done = []
    for store in stores_of(installation, module):
        beside = list(installation.stores) if installation.shared else [store.module]
        one = await vacuum_module(store.url, store.storage.schema, beside, force=force)
        report.line(f"{one.module}: {size_text(one.before)} -> {size_text(one.after)}")
        done.append(one)
    report.finish({"modules": done})
    return 0
