"""``codelab db`` in processes of its own, to be killed, interrupted or held short."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codelab.db import parse_url
from codelab.db.unfinished import mark_of
from codelab.errors import StartError
from codelab.installation import MODULES
from codelab.storage.rows import open_rows
from tests.support.process import DEADLINE, clean_environ

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("mark_at", "run_limited", "running", "wait_for_mark")

_LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    " from codelab.cli import main; main()"
)


@contextmanager
def running(*arguments: str, folder: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``codelab``; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "codelab", *arguments],
        cwd=folder,
        env=clean_environ(folder, **environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run_limited(*arguments: str, folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Run ``codelab`` where no file may become larger than ``limit`` bytes, as on a disk that is full."""
    return subprocess.run(
        [sys.executable, "-c", _LIMITED.format(limit=limit), *arguments],
        cwd=folder,
        env=clean_environ(folder),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def mark_at(module: str, url: str) -> tuple[str, str] | None:
    """Return the mark of a database that is not whole: the operation and what to do."""

    async def look() -> tuple[str, str] | None:
        try:
            async with open_rows(parse_url(url, "TEST_DB_URL"), writing=False) as rows, rows.transaction():
                return await rows.call(mark_of, MODULES[module].schema)
        except StartError:
            return None  # there is no file yet

    return asyncio.run(look())


def wait_for_mark(process: subprocess.Popen[str], module: str, url: str) -> bool:
    """Wait until a database is marked; False when the process ended before."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        if mark_at(module, url) is not None:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    raise AssertionError("the database was never marked")
