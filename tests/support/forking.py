"""Real ``codelab`` processes that are forked off one which has imported the libraries, instead of importing them anew.

Four fifths of what a command costs is importing. Where not the start of the program is tested but what it does, these
are quicker than ``run_codelab`` and ``server_process``: processes all the same, with their own folder, environment and
files, that signals end.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.process import (
    DEADLINE,
    ServerProcess,
    run_codelab,
    server_environ,
    server_process,
    wait_for_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.context import ForkServerProcess

    from tests.support.databases import DatabaseUrls

__all__ = ("fork_codelab", "forked_server")

#: What every command of ``codelab db`` imports itself, and libraries: who forgets an import of our own still fails.
_IMPORTED = [
    "codelab.installation",
    *("aiosqlite", "alembic.autogenerate", "asyncpg", "rich.progress"),
    *("advanced_alchemy.extensions.litestar", "aiohttp", "httptools", "jsonschema", "litestar.openapi.plugins"),
    *("prometheus_client", "structlog", "uvicorn", "uvloop", "websockets.server"),
]
_POSSIBLE = "forkserver" in multiprocessing.get_all_start_methods()


class _Forked:
    """What of ``subprocess.Popen`` tests use, for a process that was forked."""

    def __init__(
        self, arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str], streams: tuple[Path, Path, Path]
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        self.process: ForkServerProcess = context.Process(  # type: ignore[attr-defined,unused-ignore]
            target=_become, args=(arguments, folder, dict(environ), streams)
        )
        self.process.start()
        self.pid = int(self.process.pid or 0)

    def poll(self) -> int | None:
        """Return the exit code, minus the signal where one ended it; None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("codelab", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.exitcode is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Forget a process that has ended."""
        self.process.close()


def fork_codelab(
    *arguments: str, folder: Path, environ: Mapping[str, str], timeout: float = DEADLINE, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``codelab`` to its end, as ``run_codelab`` does."""
    if not _POSSIBLE:
        return run_codelab(*arguments, folder=folder, environ=dict(environ), timeout=timeout, stdin=stdin)
    with tempfile.TemporaryDirectory(prefix="codelab-run-") as name:
        given, out, err = (Path(name) / stream for stream in ("stdin", "stdout", "stderr"))
        given.write_text(stdin, encoding="utf-8")
        process = _Forked(arguments, folder, environ, (given, out, err))
        try:
            code = process.wait(timeout)
        finally:
            process.process.kill()
            process.process.join()
            process.close()
        return subprocess.CompletedProcess(
            arguments, code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        )


@contextmanager
def forked_server(
    folder: Path, databases: DatabaseUrls | None = None, arguments: tuple[str, ...] = (), **extra: str
) -> Iterator[ServerProcess]:
    """Start ``codelab serve`` on a free port and wait until it is ready, as ``server_process`` does."""
    if not _POSSIBLE:
        with server_process(folder, databases, arguments, **extra) as server:
            yield server
        return
    log = folder / "server.log"
    log.write_bytes(b"")
    words = ("serve", "--port", "0", *arguments)
    process = _Forked(words, folder, server_environ(folder, databases, **extra), (Path(os.devnull), log, log))
    with wait_for_server(ServerProcess(process, log)) as server:
        yield server
    process.close()


def _become(
    arguments: tuple[str, ...], folder: Path, environ: dict[str, str], streams: tuple[Path, Path, Path]
) -> None:
    """Become ``codelab`` in the process that was forked."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, stream in enumerate(streams):
        opened = os.open(stream, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    # As a start of Python opens them.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["codelab", *arguments]
    from codelab.cli import main

    main()
