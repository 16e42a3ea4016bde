"""``codelab audit tail``: the newest rows of the audit trails, and those to come."""

from __future__ import annotations

import asyncio
import heapq
import sys
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click
import msgspec

from codelab.cli.db.common import Report, env_file_option, load_installation, module_option, run, stores_of
from codelab.storage.trail import open_trail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from codelab.installation import Store

__all__ = ("describe_row", "tail", "watch")

#: Seconds between two looks.
_INTERVAL = 0.5
MOST = 10_000
#: What the line of a row does not tell by name.
_UNNAMED = {"module", "seq", "id", "created_at", "event_type", "success", "payload_hash", "mac", "erased_mac"}


@click.command()
@click.option(
    "-n", "count", type=click.IntRange(0, MOST), default=20, show_default=True, help="How many rows at first."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one row a line, as export does.")
@module_option
@env_file_option
def tail(count: int, module: str, env_file: Path | None, *, follow: bool, as_json: bool) -> None:
    """Show the newest rows of the audit trails in the order of time, beside a running server too."""
    run(_tail(count, module, env_file, follow=follow, as_json=as_json))


async def _tail(count: int, module: str, env_file: Path | None, *, follow: bool, as_json: bool) -> int:
    report = Report(as_json)
    async with aclosing(watch(stores_of(load_installation(env_file), module), count, follow=follow)) as pages:
        async for rows in pages:
            for row in rows:
                if as_json:
                    click.echo(msgspec.json.encode(row))
                else:
                    report.line(describe_row(row), "red" if row.get("success") is False else "")
            sys.stdout.flush()
    return 0


async def watch(stores: Sequence[Store], count: int, *, follow: bool) -> AsyncGenerator[list[dict[str, Any]]]:
    """Yield the newest rows of some modules, then with ``follow`` what is written, each with the name of its module.

    Raises:
        StartError: a database cannot be read.
    """
    async with AsyncExitStack() as stack:
        trails = {each.module: await stack.enter_async_context(open_trail(each.url, each.storage)) for each in stores}
        found = {module: await trail.last(count) for module, trail in trails.items()}
        yield _merge(found)[-count:] if count else []
        while follow:
            await asyncio.sleep(_INTERVAL)
            if rows := _merge({module: await trail.news() for module, trail in trails.items()}):
                yield rows


def _merge(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    named = [[{"module": module, **row} for row in rows] for module, rows in found.items()]
    return list(heapq.merge(*named, key=itemgetter("created_at")))


def describe_row(row: dict[str, Any]) -> str:
    """Write a row in one line: when, which module, what, and the rest by name; nothing in it moves the cursor."""
    named = (f"{name}={_text(value)}" for name, value in row.items() if name not in _UNNAMED and value is not None)
    when = row["created_at"].isoformat(sep=" ", timespec="milliseconds")
    line = " ".join([when, f"{row['module']:<5}", row["event_type"], *named])
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    plain = isinstance(value, str) and not set(value) & set(' "=')
    return value if plain and value else msgspec.json.encode(value).decode()
