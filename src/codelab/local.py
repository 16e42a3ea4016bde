"""A person's own local server: how ``codelab chat`` finds it and proves that it is theirs.

An address is never a credential: another user of the machine may take a port that this server has left. So a client
asks for a proof that needs the secret of a file only this person can read, before it sends anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import platformdirs
from litestar import get
from litestar.params import QueryParameter

from codelab import __version__
from codelab.errors import BadRequest
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import uvicorn
    from litestar import Litestar
    from litestar.handlers import HTTPRouteHandler

__all__ = ("LocalServer", "data_dir", "local_environ")

FILE = "server.json"
PREFIX = "codelab_local_"
_NONCE = re.compile(r"[A-Za-z0-9_-]{22,128}")
_OURS = ("AGENT_RUNTIME__", "AUTH_SERVICE__", "CODELAB_")
CHECK_EVERY = 1.0


def data_dir(environ: Mapping[str, str]) -> Path:
    """Return the person's data folder."""
    chosen = environ.get("CODELAB_DATA_DIR")
    return (
        Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_data_dir("codelab", appauthor=False))
    )


def local_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Put the databases and the key into the data folder, where the environment does not say otherwise."""
    folder = data_dir(environ)
    defaults = {
        "AGENT_RUNTIME__DB_URL": f"sqlite:///{folder / 'agent_runtime.db'}",
        "AUTH_SERVICE__DB_URL": f"sqlite:///{folder / 'auth.db'}",
        "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE": str(folder / "auth.key"),
    }
    return defaults | {name: value for name, value in environ.items() if value}


class LocalServer:
    """Hold the secret of one local server, write its file, and end it when it is idle."""

    def __init__(self, environ: Mapping[str, str], port: int) -> None:
        self.secret = PREFIX + secrets.token_urlsafe(32)
        self._port = port
        self._file = data_dir(environ) / FILE
        settings = {
            name: value
            for name, value in environ.items()
            if value and name.startswith(_OURS) and name != "CODELAB_DATA_DIR"
        }
        self._settings = self._mac(canonical_json(settings))

    def _mac(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    def route(self) -> HTTPRouteHandler:
        """Make the route that proves possession of the secret."""

        @get("/.well-known/codelab-local", summary="Proof of a local server", tags=["operations"])
        async def prove(nonce: Annotated[str, QueryParameter(max_length=128)]) -> dict[str, str | int]:
            """Prove that this server holds the secret of the server file."""
            if not _NONCE.fullmatch(nonce):
                raise BadRequest("nonce: must be 22 to 128 characters of A-Z a-z 0-9 _ -", field="nonce")
            pid = os.getpid()
            return {"pid": pid, "version": __version__, "proof": self._mac(f"codelab-local:{nonce}:{pid}")}

        return prove

    @contextlib.asynccontextmanager
    async def serving(self, app: Litestar, server: uvicorn.Server, idle_seconds: float) -> AsyncIterator[None]:
        """Keep the server file while the server runs, and end the server when nobody needs it."""
        self._write()
        watch = asyncio.create_task(self._end_when_idle(app, server, idle_seconds), name="codelab-idle")
        try:
            yield
        finally:
            watch.cancel()
            self._remove()

    def _write(self) -> None:
        document = {
            "port": self._port,
            "pid": os.getpid(),
            "version": __version__,
            "secret": self.secret,
            "settings": self._settings,
        }
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made 0600 by mkstemp, and moved whole: nobody reads half a file, or one with a wider mode.
        handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=".server-")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(document))
        Path(name).replace(self._file)

    def _remove(self) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if msgspec.json.decode(self._file.read_bytes()).get("pid") == os.getpid():
                self._file.unlink()

    @staticmethod
    async def _end_when_idle(app: Litestar, server: uvicorn.Server, idle_seconds: float) -> None:
        while True:
            await asyncio.sleep(min(CHECK_EVERY, idle_seconds))
            observer = app.state.observer
            if observer.open_requests or app.state.agent.busy:
                continue
            if time.monotonic() - observer.last_request >= idle_seconds:
                server.should_exit = True
                return
