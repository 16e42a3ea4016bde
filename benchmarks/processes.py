"""The sides of a benchmark as processes: codelab, its floor, a model, and clients that are faster than all of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.sides import fresh_database
from tests.support.databases import DatabaseUrls
from tests.support.process import server_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx2

    from tests.support.databases import PostgresServer

__all__ = ("Codelab", "codelab", "cpu_seconds", "get", "load", "post", "program", "resident_kb")

ROOT = Path(__file__).resolve().parents[1]
_QUIET = dict.fromkeys(("CODELAB_LOG_LEVEL", "AGENT_RUNTIME__LOG_LEVEL", "AUTH_SERVICE__LOG_LEVEL"), "warning")


@contextmanager
def program(module: str, *arguments: str) -> Iterator[str]:
    """Run a module of this package that prints its address, and give that address."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(30)


class Codelab(NamedTuple):
    """A server of its own process, a client that is logged in, and where its data is."""

    http: httpx2.AsyncClient
    pid: int
    databases: DatabaseUrls

    @property
    def database(self) -> str:
        """The URL of module ``agent``'s database."""
        return self.databases.agent

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.http.base_url)

    @property
    def token(self) -> str:
        """The header ``Authorization``."""
        return self.http.headers["Authorization"]

    async def session(self) -> str:
        """Make a session and return its id."""
        session_id: str = (await self.http.post("/api/v1/sessions", json={"agent": "ask"})).json()["id"]
        return session_id


@asynccontextmanager
async def codelab(folder: Path, server: PostgresServer | None, **extra: str) -> AsyncIterator[Codelab]:
    """Run a server on new databases."""
    folder.mkdir()  # noqa: ASYNC240 - nobody waits for it
    urls = DatabaseUrls(agent=fresh_database(folder, server), auth=fresh_database(folder, server))
    with server_process(folder, urls, **_QUIET, **extra) as running:
        async with running.login() as http:
            yield Codelab(http, running.process.pid, urls)


def cpu_seconds(pid: int) -> float:
    """Return how long a process has kept a core busy; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> int:
    """Return the memory of a process in KB; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def get(path: str, token: str = "") -> str:
    """Write a request without a body as it goes over the wire."""
    authorization = f"Authorization: {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n"


def post(path: str, body: Any, token: str = "") -> str:
    """Write a request as it goes over the wire."""
    text = json.dumps(body)
    authorization = f"Authorization: {token}\r\n" if token else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n{text}"


async def load(module: str, url: str, given: str, *arguments: str) -> dict[str, float]:
    """Run a client against an address and return what it measured."""
    port = url.rpartition(":")[2].strip("/")
    command = [sys.executable, "-m", f"benchmarks.{module}", "--port", port, *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    printed, _ = await process.communicate(given.encode())
    assert process.returncode == 0
    measured: dict[str, float] = json.loads(printed)
    return measured
