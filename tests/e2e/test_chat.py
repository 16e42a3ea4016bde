"""The first five minutes: ``codelab chat`` against its own local server and against a server by URL."""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import DatabaseUrls
from tests.support.process import PASSWORD, clean_environ, run_codelab, server_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresServer


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a README."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").write_text("# Quokka\n\nIt smiles.\n", encoding="utf-8")
    return folder


class TestLocal:
    def test_a_question_is_answered_with_a_quote(self, project: Path, home: Path) -> None:
        """Without any set-up the chat reads the file and quotes it."""
        done = run_codelab(
            "chat", "--prompt", "what is in README.md", "--approve", "none", folder=project, environ=clean_environ(home)
        )

        assert done.returncode == 0, done.stderr
        assert "It smiles." in done.stdout

    def test_a_write_needs_approval(self, project: Path, home: Path) -> None:
        """With --approve all the file is there and works; with none there is no file, and the answer says so."""
        environ = clean_environ(home)
        words = ("chat", "--prompt", "create hello.py that prints hi", "--approve")
        refused = run_codelab(*words, "none", folder=project, environ=environ)

        assert refused.returncode == 0, refused.stderr
        assert "rejected" in refused.stdout
        assert not (project / "hello.py").exists()

        allowed = run_codelab(*words, "all", folder=project, environ=environ)
        output = subprocess.run([sys.executable, "hello.py"], cwd=project, capture_output=True, text=True, check=True)

        assert allowed.returncode == 0, allowed.stderr
        assert output.stdout == "hi\n"

    def test_the_server_is_reused_and_its_file_is_private(self, project: Path, home: Path) -> None:
        """Two chats, one server; its file and databases can be read by their owner only; no secret in argv or logs."""
        environ = clean_environ(home)
        run_codelab("chat", "--prompt", "hello", folder=project, environ=environ)
        (file,) = home.rglob("server.json")
        first = json.loads(file.read_text(encoding="utf-8"))
        run_codelab("chat", "--prompt", "hello", folder=project, environ=environ)
        written = json.loads(file.read_text(encoding="utf-8"))
        logs = "".join(path.read_text(encoding="utf-8") for path in home.rglob("*.log"))

        assert written == first
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert written["secret"] not in logs
        with contextlib.suppress(FileNotFoundError):  # there is no /proc on macOS
            with open(f"/proc/{written['pid']}/cmdline", encoding="utf-8") as arguments:  # noqa: PTH123 - a kernel file
                assert written["secret"] not in arguments.read()
            with open(f"/proc/{written['pid']}/environ", encoding="utf-8") as variables:  # noqa: PTH123 - as above
                assert written["secret"] not in variables.read()

    def test_an_image_reaches_the_model(self, project: Path, home: Path) -> None:
        """fake-llm says what it was shown."""
        (project / "shot.webp").write_bytes(b"RIFF\x04\x00\x00\x00WEBP")
        words = ("chat", "--prompt", "what is this?", "--image", "shot.webp", "--model", "fake-llm")
        done = run_codelab(*words, folder=project, environ=clean_environ(home))

        assert done.returncode == 0, done.stderr
        assert "Images in your message: 1 (image/webp)." in done.stdout

    def test_it_continues_the_session_of_the_folder(self, project: Path, home: Path) -> None:
        """--continue goes on in the same session, --json says which."""
        environ = clean_environ(home)
        first = run_codelab("chat", "--json", "--prompt", "hello", folder=project, environ=environ)
        second = run_codelab("chat", "--json", "--continue", "--prompt", "hello", folder=project, environ=environ)

        assert json.loads(first.stdout)["session_id"] == json.loads(second.stdout)["session_id"]

    def test_it_ends_when_idle(self, project: Path, home: Path) -> None:
        """Nobody has to stop a local server."""
        environ = clean_environ(home, CODELAB_IDLE_SECONDS="1")
        run_codelab("chat", "--prompt", "hello", folder=project, environ=environ)
        until = time.monotonic() + 30
        while any(home.rglob("server.json")):
            assert time.monotonic() < until
            time.sleep(0.1)

        again = run_codelab("chat", "--prompt", "what is in README.md", folder=project, environ=environ)
        assert "It smiles." in again.stdout

    def test_a_changed_setting_restarts_it(self, project: Path, home: Path) -> None:
        """A chat with a model's address does not talk to a server without one."""
        run_codelab("chat", "--prompt", "hello", folder=project, environ=clean_environ(home))
        changed = clean_environ(
            home, AGENT_RUNTIME__LLM_PROXY_URL="http://127.0.0.1:9", AGENT_RUNTIME__LLM_MODEL="some-model"
        )
        failed = run_codelab("chat", "--prompt", "hello", folder=project, environ=changed)

        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
        assert "127.0.0.1:9" not in failed.stdout + failed.stderr

    def test_a_model_address_without_a_model_is_one_clear_line(self, project: Path, home: Path) -> None:
        """The local server's refusal reaches the person who chats."""
        environ = clean_environ(home, AGENT_RUNTIME__LLM_PROXY_URL="http://127.0.0.1:9")
        failed = run_codelab("chat", "--prompt", "hello", folder=project, environ=environ)

        assert failed.returncode == 2
        assert "AGENT_RUNTIME__LLM_MODEL" in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1


NINE = {
    *("sessions", "messages", "agent_contexts", "agent_switches", "pending_approvals"),
    *("users", "oauth_clients", "refresh_tokens", "audit_logs"),
}


class TestByUrl:
    @pytest.mark.parametrize("scheme", ["postgresql://", "postgresql+asyncpg://"])
    def test_on_postgresql_with_the_nine_tables(
        self, project: Path, home: Path, postgresql: PostgresServer, scheme: str
    ) -> None:
        """The same chat on PostgreSQL; psql shows the tables of the reference system."""
        urls = [postgresql.create(), postgresql.create()]
        try:
            agent, auth = (url.replace("postgresql://", scheme, 1) for url in urls)
            with server_process(home, DatabaseUrls(agent=agent, auth=auth)) as server:
                log_in = ("--url", server.url, "--username", "admin")
                environ = clean_environ(home)
                first = run_codelab(
                    *("chat", *log_in, "--password-stdin", "--prompt", "what is in README.md"),
                    folder=project,
                    environ=environ,
                    stdin=PASSWORD + "\n",
                )
                later = run_codelab(
                    *("chat", "--url", server.url, "--prompt", "create hello.py that prints hi", "--approve", "all"),
                    folder=project,
                    environ=environ,
                )
                log = server.log.read_text(encoding="utf-8")
            tables = {name for url in urls for name in _tables(postgresql, url)}
        finally:
            for url in urls:
                postgresql.drop(url)

        assert first.returncode == 0, first.stderr
        assert "It smiles." in first.stdout
        assert later.returncode == 0, later.stderr
        assert (project / "hello.py").exists()
        assert tables >= NINE
        assert log.count("Database initialized with URL: " + scheme) == 2

    def test_a_wrong_password_is_one_line(self, project: Path, home: Path, databases: DatabaseUrls) -> None:
        """The login is refused with exit code 2 and no traceback; no token is kept."""
        with server_process(home, databases) as server:
            failed = run_codelab(
                *("chat", "--url", server.url, "--username", "admin", "--password-stdin", "--prompt", "hello"),
                folder=project,
                environ=clean_environ(home),
                stdin="wrong\n",
            )

        assert failed.returncode == 2
        assert len(failed.stderr.strip().splitlines()) == 1
        assert not any(home.rglob("credentials.json"))

    def test_nobody_listens(self, project: Path, home: Path) -> None:
        """A server that is not there is one line and exit code 2."""
        failed = run_codelab(
            *("chat", "--url", "http://127.0.0.1:9", "--username", "a", "--password-stdin", "--prompt", "hello"),
            folder=project,
            environ=clean_environ(home),
            stdin="x\n",
        )

        assert failed.returncode == 2
        assert "Traceback" not in failed.stderr


def _tables(server: PostgresServer, url: str) -> list[str]:
    """Ask psql for the tables of a database."""
    assert server.bin is not None, "psql is needed"
    query = "select tablename from pg_tables where schemaname = 'public'"
    shown = subprocess.run([server.bin / "psql", url, "-At", "-c", query], capture_output=True, text=True, check=True)
    return shown.stdout.split()
