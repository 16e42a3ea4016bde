from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from codelab import __version__
from codelab.client import local
from codelab.client.errors import ClientError
from codelab.client.local import LocalServer, ensure_server, find_server, settings_fingerprint
from codelab.client.state import write_private

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

SECRET = "codelab_local_s3cret"
PYTHON = sys.executable

#: Stands in for `codelab serve --local`: it writes the server file, proves itself and is ready.
SERVER = """
import hashlib, hmac, http.server, json, os, sys, urllib.parse
secret = "codelab_local_" + os.urandom(8).hex()
def mac(text): return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/ready":
            body = b"{}"
        else:
            nonce = urllib.parse.parse_qs(url.query)["nonce"][0]
            proof = mac(f"codelab-local:{nonce}:{os.getpid()}")
            body = json.dumps({"pid": os.getpid(), "version": VERSION, "proof": proof}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
counted = {n: v for n, v in os.environ.items()
           if n.startswith(("AGENT_RUNTIME__", "AUTH_SERVICE__", "CODELAB_")) and n != "CODELAB_DATA_DIR" and v}
settings = mac(json.dumps(counted, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
path = os.path.join(os.environ["CODELAB_DATA_DIR"], "server.json")
with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    json.dump({"port": server.server_port, "pid": os.getpid(), "version": VERSION, "secret": secret,
               "settings": settings}, file)
os.replace(path + ".new", path)
server.serve_forever()
"""


def write_server_file(data: Path, **changes: Any) -> LocalServer:
    """Write a server file of our own process."""
    server = LocalServer(port=1, pid=os.getpid(), version=__version__, secret=SECRET, settings="")
    server = msgspec.structs.replace(server, **changes)
    write_private(data / "server.json", msgspec.json.encode(server))
    return server


@contextlib.asynccontextmanager
async def listener(answer: Callable[[web.Request], dict[str, Any]]) -> AsyncIterator[tuple[int, list[web.Request]]]:
    """Listen on a port; yields the port and what arrives."""
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(answer(request))

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


def proof(request: web.Request, secret: str = SECRET, pid: int | None = None) -> str:
    """Prove as docs/api.md says."""
    message = f"codelab-local:{request.query['nonce']}:{pid or os.getpid()}"
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


async def find(data: Path) -> LocalServer | None:
    """Look for the server beside the listener's loop."""
    return await asyncio.to_thread(find_server, data)


class TestProof:
    async def test_a_server_that_proves_itself_is_found(self, data: Path) -> None:
        """The proof of docs/api.md is accepted; the secret is not sent for it."""

        def answer(request: web.Request) -> dict[str, Any]:
            return {"pid": os.getpid(), "version": __version__, "proof": proof(request)}

        async with listener(answer) as (port, seen):
            written = write_server_file(data, port=port)

            assert await find(data) == written
        assert SECRET not in repr([(request.path_qs, dict(request.headers)) for request in seen])
        assert SECRET not in repr(written)

    @pytest.mark.parametrize(
        "lie",
        [
            {"proof": "0" * 64},
            {"proof": ""},
            {"pid": 1},
            {"version": "9.9.9"},
            {"proof": None},
            {"proof": "ä"},
        ],
    )
    async def test_an_alien_on_the_port_never_sees_the_secret(self, data: Path, lie: dict[str, Any]) -> None:
        """Who cannot prove it is not the server."""

        def answer(request: web.Request) -> dict[str, Any]:
            return {"pid": os.getpid(), "version": __version__, "proof": proof(request)} | lie

        async with listener(answer) as (port, seen):
            write_server_file(data, port=port)

            assert await find(data) is None
        assert len(seen) == 1
        assert SECRET not in repr((seen[0].path_qs, dict(seen[0].headers)))

    async def test_a_proof_for_another_process_does_not_count(self, data: Path) -> None:
        """The process that would be sent a signal is part of the proof."""

        def answer(request: web.Request) -> dict[str, Any]:
            return {"pid": os.getpid(), "version": __version__, "proof": proof(request, pid=os.getppid())}

        async with listener(answer) as (port, _):
            write_server_file(data, port=port)

            assert await find(data) is None

    def test_nobody_on_the_port_is_nobody(self, data: Path) -> None:
        """A file that was left behind is not a server."""
        write_server_file(data)

        assert find_server(data) is None

    def test_a_process_that_has_ended_is_no_server(self, data: Path) -> None:
        """Nor is one that is gone."""
        ended = subprocess.Popen([PYTHON, "-c", ""])
        ended.wait()
        write_server_file(data, pid=ended.pid)

        assert find_server(data) is None

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"port": "x"}'])
    def test_nonsense_in_the_file_is_no_server(self, data: Path, content: bytes) -> None:
        """It counts as none."""
        write_private(data / "server.json", content)

        assert find_server(data) is None

    def test_a_file_that_others_may_read_is_refused(self, data: Path) -> None:
        """A secret that others have seen is no proof of anything."""
        write_server_file(data)
        (data / "server.json").chmod(0o644)
        with pytest.raises(ClientError, match="open to others"):
            find_server(data)


class TestFingerprint:
    def test_it_covers_the_settings_and_nothing_else(self) -> None:
        """Ours count; empty ones, the data folder and everybody else's do not."""
        settings = {"CODELAB_LOG_LEVEL": "debug", "AGENT_RUNTIME__LLM_MODEL": "ä"}
        ignored = {"CODELAB_DATA_DIR": "/x", "AUTH_SERVICE__DB_URL": "", "PATH": "/bin"}
        text = '{"AGENT_RUNTIME__LLM_MODEL":"ä","CODELAB_LOG_LEVEL":"debug"}'

        expected = hmac.new(b"k", text.encode(), hashlib.sha256).hexdigest()

        assert settings_fingerprint(settings | ignored, "k") == expected


class TestStart:
    @pytest.fixture
    def launcher(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Call it with a program that takes the place of ``python -m codelab serve --local``."""

        def use(program: str) -> None:
            script = tmp_path / "python"
            body = f"VERSION = {__version__!r}\n{program}"
            (tmp_path / "program.py").write_text(body)
            script.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/argv"\nexec "{PYTHON}" "{tmp_path}/program.py"\n')
            script.chmod(0o755)
            monkeypatch.setattr(sys, "executable", str(script))

        return use

    @pytest.fixture(autouse=True)
    def ended(self, data: Path) -> Iterator[None]:
        """End the server that a test has started."""
        yield
        if (server := find_server(data)) is not None and server.pid != os.getpid():
            local._stop(server)

    def ensure(self, data: Path, notes: list[str] | None = None, **extra: str) -> LocalServer:
        """Find or start the server, with some settings."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(data)} | extra
        return ensure_server(data, environ, (notes if notes is not None else []).append)

    def test_a_server_is_started_once_and_found_again(
        self, data: Path, tmp_path: Path, launcher: Callable[[str], None]
    ) -> None:
        """The second chat uses the server of the first; its secret is in no argument."""
        launcher(SERVER)
        first = self.ensure(data)
        notes: list[str] = []
        second = self.ensure(data, notes, CODELAB_LOG_LEVEL="")

        assert (second, notes) == (first, [])
        assert (tmp_path / "argv").read_text() == "-m codelab serve --local\n"
        assert (data / "server.log").stat().st_mode & 0o777 == 0o600

    def test_other_settings_restart_it(self, data: Path, launcher: Callable[[str], None]) -> None:
        """One line says why, and the old process is gone."""
        launcher(SERVER)
        first = self.ensure(data)
        notes: list[str] = []
        second = self.ensure(data, notes, CODELAB_LOG_LEVEL="debug")

        assert notes == ["Restarting the local server: the settings in the environment have changed."]
        assert second.pid != first.pid
        assert not local._is_alive(first.pid)

    def test_another_version_restarts_it(
        self, data: Path, launcher: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server of another release is replaced."""
        launcher(SERVER)
        first = self.ensure(data)
        monkeypatch.setattr(local, "__version__", "99.0")
        launcher(SERVER.replace("VERSION", "'99.0'"))
        notes: list[str] = []
        second = self.ensure(data, notes)

        assert notes == [f"Restarting the local server: it is version {__version__}, this is 99.0."]
        assert (second.version, second.pid != first.pid) == ("99.0", True)

    def test_a_chat_that_only_lost_it_takes_it_as_it_is(self, data: Path, launcher: Callable[[str], None]) -> None:
        """Two open chats with different settings do not go on replacing each other's server."""
        launcher(SERVER)
        first = self.ensure(data)
        environ = {"CODELAB_LOG_LEVEL": "debug"}

        assert ensure_server(data, environ, pytest.fail, any_settings=True) == first

    def test_an_alien_process_is_never_sent_a_signal(self, data: Path, launcher: Callable[[str], None]) -> None:
        """The number in a stale file may belong to anybody now."""
        alien = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(300)"])
        try:
            write_server_file(data, pid=alien.pid, version="0.0.1")
            launcher(SERVER)
            started = self.ensure(data)

            assert started.pid != alien.pid
            assert alien.poll() is None
        finally:
            alien.kill()
            alien.wait()

    def test_a_server_that_does_not_start_shows_the_end_of_its_log(
        self, data: Path, launcher: Callable[[str], None]
    ) -> None:
        """One sentence, with what drives terminals spelled out; older lines of the log are not shown."""
        (data / "server.log").write_text("an old line\n")
        launcher("import sys; print('first'); print('AGENT_RUNTIME__DB_URL: no\\x1b[31m', end='\\n\\n'); sys.exit(2)")
        with pytest.raises(ClientError, match=r"did not start: AGENT_RUNTIME__DB_URL: no\\x1b\[31m$") as caught:
            self.ensure(data)

        assert "\x1b" not in str(caught.value)
