"""What all commands of ``codelab db`` share: which databases, how the outcome is told, how it ends.

Exit codes: 0 done, 1 done and something is wrong (``db check``) or could not be done, 2 a setting or an argument cannot
be used or the database cannot be reached, 130 Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from codelab.errors import CodelabError, StartError
from codelab.settings import Settings, read_env_file

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from codelab.installation import Installation, Store

__all__ = (
    "Report",
    "Rows",
    "env_file_option",
    "json_option",
    "load_installation",
    "load_settings",
    "module_option",
    "rows_progress",
    "run",
    "size_text",
    "stores_of",
)

#: From malloc.h.
M_ARENA_MAX = -8

env_file_option = click.option(
    "--env-file", type=click.Path(path_type=Path), help="Read NAME=value settings from this file too."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
module_option = click.option(
    "--module",
    type=click.Choice(("agent", "auth", "all")),
    default="all",
    show_default=True,
    help="Which module's database.",
)


def load_settings(env_file: Path | None) -> Settings:
    """Read the settings, as ``codelab serve`` would in this folder.

    Raises:
        StartError: a setting cannot be used.
    """
    environ = {**(read_env_file(env_file) if env_file else {}), **{k: v for k, v in os.environ.items() if v}}
    return Settings.from_environ(environ)


def load_installation(env_file: Path | None) -> Installation:
    """Read the settings and name the databases, as ``codelab serve`` would in this folder.

    Raises:
        StartError: a setting or a URL cannot be used.
    """
    from codelab.installation import Installation

    return Installation(load_settings(env_file))


def stores_of(installation: Installation, module: str) -> Sequence[Store]:
    """Return the stores that ``--module`` names."""
    return [store for name, store in installation.stores.items() if module in {"all", name}]


def run(main: Coroutine[Any, Any, int | None]) -> None:
    """Run a command to its end and leave with its exit code; what is expected to fail ends in one line."""
    _share_arena()
    try:
        code = asyncio.run(main) or 0
    except StartError as error:
        click.echo(f"codelab: {error}", err=True)
        code = 2
    except CodelabError as error:
        click.echo(f"codelab: {error.detail}", err=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _share_arena() -> None:
    """Let all threads take memory from one place, where the C library is glibc.

    Rows are made in one thread and freed in another: with a heap for each, what is free in one is asked of the system
    by the other, and a copy of a million rows takes half as much memory again.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def size_text(size: int) -> str:
    """Write a number of bytes for people."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


@dataclass
class Report:
    """Tell the outcome: as lines for people, or as one JSON document for programs on standard output."""

    as_json: bool

    def line(self, text: str, style: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            from rich.text import Text

            self.console.print(Text(text, style=style))

    @functools.cached_property
    def console(self) -> Console:
        """What prints for people; made when there is something to print, since Rich takes a while to load."""
        from rich.console import Console

        return Console(highlight=False, soft_wrap=True)

    def finish(self, document: Any) -> None:
        """Print the document for programs."""
        if self.as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


class Rows:
    """Count rows of one table or step after the other on a progress bar; without a bar nothing is shown."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task: Any = None

    def begin(self, what: str, total: int | None) -> None:
        """Start the bar of the next table or step; ``total`` is its number of rows, where it is known."""
        if self._progress is not None:
            self._task = self._progress.add_task(what, total=total)

    def advance(self, rows: int) -> None:
        """Count rows that are done."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=rows)


@contextmanager
def rows_progress(*, quiet: bool) -> Iterator[Rows]:
    """Show progress on standard error while rows are worked on; nothing on what is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield Rows(None)
        return
    from codelab.cli.db.progress import make_progress

    with make_progress() as progress:
        yield Rows(progress)
