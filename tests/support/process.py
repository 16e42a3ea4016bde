"""Real ``codelab`` processes, as a person starts them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

__all__ = (
    "DEADLINE",
    "PASSWORD",
    "RunningProcess",
    "ServerProcess",
    "clean_environ",
    "run_codelab",
    "server_environ",
    "server_process",
    "wait_for_server",
)

PASSWORD = "correct horse battery staple"
DEADLINE = 60.0


def clean_environ(home: Path, **extra: str) -> dict[str, str]:
    """Make an environment that holds nothing of the person who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), **extra}


def server_environ(home: Path, databases: DatabaseUrls | None, **extra: str) -> dict[str, str]:
    """Make the environment of a server on these databases, and of what runs beside it."""
    environ = clean_environ(home, AUTH_SERVICE__MASTER_KEY=PASSWORD, **extra)
    if databases is not None:
        environ |= {"AGENT_RUNTIME__DB_URL": databases.agent, "AUTH_SERVICE__DB_URL": databases.auth}
    return environ


def run_codelab(
    *arguments: str, folder: Path, environ: dict[str, str], timeout: float = DEADLINE, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``codelab`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "codelab", *arguments],
        cwd=folder,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class RunningProcess(Protocol):
    """What of ``subprocess.Popen`` tests use."""

    @property
    def pid(self) -> int:
        """The id of the process."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, minus the signal where one ended it; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        ...

    def send_signal(self, number: int, /) -> None:
        """Send a signal, unless the process has ended."""
        ...


@dataclass
class ServerProcess:
    """A server of its own process."""

    process: RunningProcess
    log: Path
    url: str = ""

    def wait_until_ready(self) -> None:
        """Return when ``/ready`` says so."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            text = self.log.read_text(encoding="utf-8")
            assert self.process.poll() is None, text
            if found := re.search(r"codelab serves on (http://\S+)", text):
                self.url = found.group(1)
                if httpx2.get(f"{self.url}/ready", trust_env=False, verify=False).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text(encoding="utf-8"))

    def login(self) -> httpx2.AsyncClient:
        """Log in as admin and return a client with the token."""
        form = {"grant_type": "password", "client_id": "codelab-flutter-app", "username": "admin", "password": PASSWORD}
        answer = httpx2.post(f"{self.url}/oauth/token", data=form, trust_env=False, verify=False)
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False)

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=DEADLINE)

    def stop(self) -> int:
        """End it as an operator does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE)


@contextmanager
def server_process(
    folder: Path, databases: DatabaseUrls | None = None, arguments: tuple[str, ...] = (), **extra: str
) -> Iterator[ServerProcess]:
    """Start ``codelab serve`` on a free port and wait until it is ready."""
    environ = server_environ(folder, databases, **extra)
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "codelab", "serve", "--port", "0", *arguments],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    with wait_for_server(ServerProcess(process, log)) as server:
        yield server


@contextmanager
def wait_for_server(server: ServerProcess) -> Iterator[ServerProcess]:
    """Wait until a server is ready; it is killed at the end if it still runs."""
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
