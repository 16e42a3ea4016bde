"""A person's own local server: find it, prove it, start it (docs/api.md, last section)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import msgspec

from codelab import __version__
from codelab.client.console import escape_line
from codelab.client.errors import ClientError
from codelab.client.state import hold_lock, open_private_append, read_private_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("LocalAccess", "LocalServer", "ensure_server", "find_server", "settings_fingerprint")

#: Seconds until a started server must be ready, and until one that was asked to end must have left.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

_COUNTED = ("AGENT_RUNTIME__", "AUTH_SERVICE__", "CODELAB_")


class LocalServer(msgspec.Struct, frozen=True):
    """What the server file says; ``repr`` leaves out the secret."""

    port: int
    pid: int
    version: str
    secret: str
    settings: str

    def __repr__(self) -> str:
        return f"LocalServer(port={self.port}, pid={self.pid}, version={self.version!r})"

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.port}"


def settings_fingerprint(environ: Mapping[str, str], secret: str) -> str:
    """Compute the keyed fingerprint of the settings in an environment; empty ones and the data folder do not count."""
    counted = {
        name: value.encode("utf-8", "replace").decode()
        for name, value in environ.items()
        if name.startswith(_COUNTED) and name != "CODELAB_DATA_DIR" and value
    }
    canonical = msgspec.json.encode(counted, order="sorted")
    return hmac.new(secret.encode(), canonical, hashlib.sha256).hexdigest()


def find_server(data: Path) -> LocalServer | None:
    """Find the running server of a data folder; ``None`` when nobody proves to be it.

    Raises:
        ClientError: the server file is not private to us.
    """
    try:
        found = msgspec.convert(read_private_json(data / "server.json"), LocalServer)
    except msgspec.ValidationError:
        return None
    if not (0 < found.port < 65536 and found.pid > 1 and found.secret):
        return None
    return found if _is_alive(found.pid) and _is_proven(found) else None


def ensure_server(
    data: Path, environ: Mapping[str, str], note: Callable[[str], None], *, any_settings: bool = False
) -> LocalServer:
    """Find or start the local server of a data folder, with our version and settings.

    With ``any_settings`` a running server is taken as it is.

    Raises:
        ClientError: it cannot be started or replaced.
    """
    with hold_lock(data / "server.lock"):
        server = find_server(data)
        if server is not None:
            reason = None if any_settings else _why_replace(server, environ)
            if reason is None:
                _wait_ready(server, time.monotonic() + START_TIMEOUT)
                return server
            note(f"Restarting the local server: {reason}.")
            _stop(server)
        return _start(data, environ)


class LocalAccess:
    """Be the person whose local server this is."""

    identity = "local"

    def __init__(self, data: Path, environ: Mapping[str, str], note: Callable[[str], None]) -> None:
        self._data = data
        self._environ = environ
        self._note = note
        self._server: LocalServer | None = None
        self._one_at_a_time = asyncio.Lock()

    def start(self) -> None:
        """Find the server, or start it.

        Raises:
            ClientError: it cannot be started.
        """
        self._server = ensure_server(self._data, self._environ, self._note)

    async def address(self) -> str:
        """Return the base URL of the server."""
        return (await self._find()).url

    async def token(self) -> str:
        """Return the secret of the server."""
        return (await self._find()).secret

    async def renew(self, refused: str) -> None:
        """Look for the server again: another one may have taken its place."""
        async with self._one_at_a_time:
            if self._server is not None and self._server.secret == refused:
                self._server = await self._again()

    async def recover(self) -> None:
        """Look for the server again, and start it when it is gone, for example because it was idle."""
        async with self._one_at_a_time:
            self._server = await self._again()

    async def _find(self) -> LocalServer:
        async with self._one_at_a_time:
            if self._server is None:
                self._server = await self._again()
            return self._server

    async def _again(self) -> LocalServer:
        # Any settings will do here: two chats with different settings must not go on replacing each other's server.
        return await asyncio.to_thread(ensure_server, self._data, self._environ, self._note, any_settings=True)


def _why_replace(server: LocalServer, environ: Mapping[str, str]) -> str | None:
    if server.version != __version__:
        return f"it is version {escape_line(server.version)}, this is {__version__}"
    if not hmac.compare_digest(server.settings.encode(), settings_fingerprint(environ, server.secret).encode()):
        return "the settings in the environment have changed"
    return None


def _is_proven(server: LocalServer) -> bool:
    """Ask whoever listens on the port to prove that they hold the secret; the secret itself is not sent."""

    class Proof(msgspec.Struct):
        pid: int
        version: str
        proof: str

    nonce = secrets.token_urlsafe(32)
    try:
        with httpx2.Client(timeout=5.0, trust_env=False) as client:
            response = client.get(f"{server.url}/.well-known/codelab-local", params={"nonce": nonce})
        answer = msgspec.json.decode(response.content, type=Proof)
    except (httpx2.HTTPError, msgspec.MsgspecError):
        return False
    message = f"codelab-local:{nonce}:{server.pid}".encode()
    expected = hmac.new(server.secret.encode(), message, hashlib.sha256).hexdigest()
    proven = hmac.compare_digest(answer.proof.encode(), expected.encode())
    return proven and answer.pid == server.pid and answer.version == server.version


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's process: ours is gone and its number was given away.
        return False
    # A process that has ended stays until its parent, perhaps another chat, looks at it.
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return not state or state[0] != "Z"
    return True


def _stop(server: LocalServer) -> None:
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while _is_alive(server.pid):
        if time.monotonic() > deadline:
            raise ClientError(f"The local server (process {server.pid}) does not end; end it and try again.")
        time.sleep(0.05)


def _start(data: Path, environ: Mapping[str, str]) -> LocalServer:
    log = data / "server.log"
    try:
        descriptor = open_private_append(log)
    except OSError as error:
        raise ClientError(f"{log} cannot be written: {error.strerror}.") from None
    with os.fdopen(descriptor, "ab") as output:
        began = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "codelab", "serve", "--local"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=data,
            env={**environ, "CODELAB_DATA_DIR": str(data)},
            start_new_session=True,
        )
    # Somebody has to look at the process when it ends, or it would seem to run for as long as this chat does.
    threading.Thread(target=process.wait, daemon=True).start()
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        server = find_server(data)
        if server is not None and server.pid == process.pid:
            _wait_ready(server, deadline)
            return server
        if process.poll() is not None:
            raise ClientError(f"The local server did not start: {_last_line(log, began)}")
        time.sleep(0.05)
    process.terminate()
    raise ClientError(f"The local server was not ready in {START_TIMEOUT:.0f} s; see {log}.")


def _wait_ready(server: LocalServer, deadline: float) -> None:
    while True:
        try:
            with httpx2.Client(timeout=5.0, trust_env=False) as client:
                if client.get(f"{server.url}/ready").status_code == 200:
                    return
        except httpx2.HTTPError:
            pass
        if time.monotonic() > deadline or not _is_alive(server.pid):
            raise ClientError("The local server is not ready; see server.log in the data folder.")
        time.sleep(0.05)


def _last_line(log: Path, began: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(began)
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return escape_line(lines[-1].strip().removeprefix("codelab: ")) if lines else f"see {log}"
