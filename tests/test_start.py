"""The real ``codelab serve``: what it says when it cannot start, and how it starts and stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from codelab import __version__
from tests.support.forking import fork_codelab
from tests.support.process import clean_environ, run_codelab, server_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

SECRET = "hunter2"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def serve(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``codelab serve`` in an empty folder until it refuses."""
    return fork_codelab("serve", "--port", "0", *arguments, folder=folder, environ=clean_environ(folder, **environ))


def assert_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, nothing on standard output, and one line on standard error with these words and no secret."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("codelab: ")
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert [word for word in words if word not in result.stderr] == [], result.stderr
    assert SECRET not in result.stderr


class TestRefusals:
    @pytest.mark.parametrize("variable", ["AGENT_RUNTIME__DB_URL", "AUTH_SERVICE__DB_URL"])
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (f"mysql://u:{SECRET}@h/db?password={SECRET}", "the scheme 'mysql' is not supported"),
            (f"postgresql:u:{SECRET}@h/db", "a value without a scheme"),
            (f"postgresql://u:{SECRET}@h:port/db", "cannot be read as a PostgreSQL URL"),
            ("sqlite://", "SQLite needs a file"),
            ("sqlite:///file/below/codelab.db", "cannot make the folder"),
            ("sqlite:///folder", "unable to open database file"),
            ("sqlite:///text.txt", "file is not a database"),
        ],
    )
    def test_a_database_that_cannot_be_used(self, variable: str, url: str, said: str, tmp_path: Path) -> None:
        """The line names the variable; nothing was made, in the other module's place neither."""
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        (tmp_path / "text.txt").write_text("dear diary\n" * 500, encoding="utf-8")
        assert_one_line(serve(tmp_path, **{variable: url}), variable, said)

        assert not list(tmp_path.rglob("*.key"))
        assert not list(tmp_path.rglob("admin-password.txt"))

    @pytest.mark.parametrize("variable", ["AGENT_RUNTIME__DB_URL", "AUTH_SERVICE__DB_URL"])
    @pytest.mark.parametrize(
        "form", ["u:{secret}@{place}/db", "u@{place}/db?password={secret}", "u@{place}/db?sslpassword={secret}"]
    )
    def test_a_postgresql_that_is_away(self, variable: str, form: str, closed_port: int, tmp_path: Path) -> None:
        """With CODELAB_DB_WAIT=0 it is tried once, and the line says where, without the password."""
        url = "postgresql://" + form.format(secret=SECRET, place=f"127.0.0.1:{closed_port}")
        result = serve(tmp_path, **{variable: url, "CODELAB_DB_WAIT": "0"})

        assert_one_line(result, variable, f"127.0.0.1:{closed_port}", "***", "no answer within 0 s (CODELAB_DB_WAIT)")
        assert not list(tmp_path.rglob("*.key"))

    def test_waiting_is_logged(self, closed_port: int, tmp_path: Path) -> None:
        """While the start waits there is one record for each try; the last line is the one for people."""
        url = f"postgresql://u:{SECRET}@127.0.0.1:{closed_port}/db?password={SECRET}"
        result = serve(tmp_path, AGENT_RUNTIME__DB_URL=url, CODELAB_DB_WAIT="1")
        *records, line = result.stderr.splitlines()

        assert result.returncode == 2
        assert line.startswith("codelab: AGENT_RUNTIME__DB_URL (")
        assert records
        assert all("trying again" in json.loads(record)["event"] for record in records)
        assert SECRET not in result.stderr + result.stdout

    def test_ctrl_c_while_it_waits(self, closed_port: int, tmp_path: Path) -> None:
        """Whoever gives up while the start waits gets no traceback."""
        url = f"postgresql://u:{SECRET}@127.0.0.1:{closed_port}/db"
        process = subprocess.Popen(
            [sys.executable, "-m", "codelab", "serve", "--port", "0"],
            cwd=tmp_path,
            env=clean_environ(tmp_path, AUTH_SERVICE__DB_URL=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "trying again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

        assert process.returncode == 130, errors
        assert all("trying again" in line for line in errors.splitlines())

    def test_a_port_in_use(self, tmp_path: Path) -> None:
        """The line names address and port, and what to do; no database was made."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = serve(tmp_path, "--port", str(port))

        assert_one_line(result, f"127.0.0.1 port {port}", "Address already in use", "--port")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("host", ["nobody.invalid", "192.0.2.1", "a..b"])
    def test_an_address_that_is_not_ours(self, host: str, tmp_path: Path) -> None:
        """A host that cannot be listened on is named."""
        assert_one_line(serve(tmp_path, "--host", host), f"cannot listen on {host}")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - it must be refused
    def test_every_address_needs_an_issuer(self, host: str, tmp_path: Path) -> None:
        """Beyond loopback nobody knows under which name people come, so they have to say it."""
        if host == "::" and not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")

        assert_one_line(serve(tmp_path, "--host", host), "AUTH_SERVICE__JWT_ISSUER is not set", "https://")

    @pytest.mark.parametrize(
        ("variable", "value", "said"),
        [
            ("AGENT_RUNTIME__MAX_STEPS", "many", "a whole number from 1 to 10000 is expected"),
            ("AGENT_RUNTIME__LLM_IDLE_TIMEOUT", "soon", "a number from 0.1 to 3600 is expected"),
            ("CODELAB_DB_WAIT", "-1", "a number from 0 to 3600 is expected"),
            ("CODELAB_LOG_FORMAT", "xml", "one of auto, json, console is expected"),
            ("CODELAB_TRUSTED_PROXIES", "proxy", "does not appear to be an IPv4 or IPv6 network"),
            ("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", "~nobody-has-this-name/key", "no such user"),
            ("AGENT_RUNTIME__LLM_PROXY_URL", "http://127.0.0.1:9/v1", "AGENT_RUNTIME__LLM_MODEL is not set"),
        ],
    )
    def test_a_setting_that_cannot_be_used(self, variable: str, value: str, said: str, tmp_path: Path) -> None:
        """The line names the variable and what is expected."""
        assert_one_line(serve(tmp_path, **{variable: value}), variable, said)
        assert not list(tmp_path.iterdir())

    def test_a_key_for_the_model_that_cannot_be_sent(self, tmp_path: Path) -> None:
        """A secret is not shown, also when it is what is wrong."""
        result = serve(
            tmp_path,
            AGENT_RUNTIME__LLM_PROXY_URL="http://127.0.0.1:9/v1",
            AGENT_RUNTIME__LLM_MODEL="m",
            AGENT_RUNTIME__LLM_API_KEY=f"{SECRET} with a space",
        )

        assert_one_line(result, "AGENT_RUNTIME__LLM_API_KEY")

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("missing.env", "No such file or directory"),
            ("folder", "Is a directory"),
            ("latin.env", "it is not UTF-8"),
            ("garbled.env", "line 2: NAME=value is expected"),
            ("name.env", "line 1: NAME=value is expected"),
        ],
    )
    def test_an_env_file_that_cannot_be_read(self, name: str, said: str, tmp_path: Path) -> None:
        """The line names the file, and the line of it, but not what stands there."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "latin.env").write_bytes("AUTH_SERVICE__MASTER_KEY=pässword".encode("latin-1"))
        (tmp_path / "garbled.env").write_text(f"CODELAB_DB_WAIT=0\n{SECRET}\n", encoding="utf-8")
        (tmp_path / "name.env").write_text(f"a b={SECRET}\n", encoding="utf-8")

        assert_one_line(serve(tmp_path, "--env-file", name), f"--env-file {name}", said)


class TestEnvFile:
    def test_the_file_is_read(self, tmp_path: Path) -> None:
        """``--env-file`` sets what the environment does not; an empty variable counts as not set."""
        (tmp_path / "my.env").write_text("AUTH_SERVICE__DB_URL=mysql://from-file\n", encoding="utf-8")

        assert_one_line(serve(tmp_path, "--env-file", "my.env"), "'mysql'")
        assert_one_line(serve(tmp_path, "--env-file", "my.env", AUTH_SERVICE__DB_URL=""), "'mysql'")

    def test_the_environment_wins(self, tmp_path: Path) -> None:
        """What both set is taken from the environment."""
        (tmp_path / "my.env").write_text("AUTH_SERVICE__DB_URL=mysql://from-file\n", encoding="utf-8")
        result = serve(tmp_path, "--env-file", "my.env", AUTH_SERVICE__DB_URL="oracle://from-environment")

        assert_one_line(result, "'oracle'")

    def test_no_file_is_read_unasked(self, tmp_path: Path) -> None:
        """A ``.env`` that lies around has no effect."""
        (tmp_path / ".env").write_text("AUTH_SERVICE__DB_URL=mysql://unasked\n", encoding="utf-8")
        result = serve(tmp_path, AUTH_SERVICE__DB_URL="oracle://asked", AGENT_RUNTIME__DB_URL="sqlite:///a.db")

        assert_one_line(result, "'oracle'")
        assert_one_line(serve(tmp_path, AGENT_RUNTIME__DB_URL="oracle://asked"), "AGENT_RUNTIME__DB_URL", "'oracle'")

    def test_a_server_runs_from_a_file(self, tmp_path: Path) -> None:
        """Comments, ``export``, quotes and empty lines are understood."""
        (tmp_path / "my.env").write_text(
            "# databases\n\n"
            "export AGENT_RUNTIME__DB_URL='sqlite:///here/agent data.db'\n"
            'AUTH_SERVICE__DB_URL = "sqlite:///here/auth.db"\n'
            "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE=here/auth.key\n"
            "CODELAB_LOG_FORMAT=json\n",
            encoding="utf-8",
        )
        with server_process(tmp_path, arguments=("--env-file", "my.env")) as server:
            assert server.stop() == 0

        assert {path.name for path in (tmp_path / "here").iterdir()} >= {"agent data.db", "auth.db", "auth.key"}
        assert not (tmp_path / "data").exists()


class TestLife:
    async def test_it_says_where_the_data_is_and_stops_under_a_stream(
        self, databases: DatabaseUrls, tmp_path: Path
    ) -> None:
        """The log has the masked URLs; SIGTERM ends the process by itself while a client follows a session."""
        agent, auth = (_with_password(url) for url in (databases.agent, databases.auth))
        with server_process(
            tmp_path, AGENT_RUNTIME__DB_URL=agent, AUTH_SERVICE__DB_URL=auth, CODELAB_LOG_FORMAT="json"
        ) as server:
            async with server.login() as http:
                session = (await http.post("/api/v1/sessions", json={})).json()["id"]
                async with http.stream("GET", f"/api/v1/sessions/{session}/events", timeout=60) as stream:
                    parts = stream.aiter_text()
                    assert "retry:" in await anext(parts)
                    server.process.send_signal(signal.SIGTERM)
                    assert "server_stopping" in "".join([part async for part in parts])
            assert server.process.wait(timeout=60) == 0

        log = server.log.read_text(encoding="utf-8")
        events = [record["event"] for record in _records(log)]
        for url in (agent, auth):
            assert f"Database initialized with URL: {_masked(url)}" in events
        assert SECRET not in log
        assert "Traceback" not in log

    def test_every_line_of_its_log_is_a_record(self, tmp_path: Path) -> None:
        """With JSON logs only the line for people, that says where it serves, is no JSON."""
        with server_process(tmp_path, CODELAB_LOG_FORMAT="json") as server:
            assert server.stop() == 0
        log = server.log.read_text(encoding="utf-8")
        lines = [line for line in log.splitlines() if not line.startswith("{")]

        assert lines == [f"codelab serves on {server.url} (Ctrl-C stops it)"]
        assert all({"event", "level", "timestamp"} <= set(record) for record in _records(log))

    def test_it_starts_again(self, tmp_path: Path) -> None:
        """What one process has made the next one uses; Ctrl-C ends it as well."""
        for _ in range(2):
            with server_process(tmp_path) as server:
                server.process.send_signal(signal.SIGINT)
                assert server.process.wait(timeout=60) == 0


def _with_password(url: str) -> str:
    """Put the secret into a PostgreSQL URL; a test server that asks for passwords keeps the right one."""
    parts = urlsplit(url)
    if not url.startswith("postgres") or parts.password:
        return url
    return parts._replace(netloc=f"{parts.username}:{SECRET}@{parts.netloc.rpartition('@')[2]}").geturl()


def _masked(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def _records(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "--help"], ["chat", "--help"]], ids=" ".join)
    def test_help(self, arguments: list[str], tmp_path: Path) -> None:
        """Help is printed to standard output and needs no settings."""
        result = run_codelab(*arguments, folder=tmp_path, environ=clean_environ(tmp_path, CODELAB_DB_WAIT="garbage"))

        assert (result.returncode, result.stderr) == (0, "")
        assert "Usage:" in result.stdout
        assert not list(tmp_path.iterdir())

    def test_help_names_the_commands_and_options(self, tmp_path: Path) -> None:
        """What there is can be found by asking."""
        environ = clean_environ(tmp_path)
        top = run_codelab("--help", folder=tmp_path, environ=environ).stdout
        serving = run_codelab("serve", "--help", folder=tmp_path, environ=environ).stdout

        assert all(command in top for command in ("chat", "serve"))
        assert all(option in serving for option in ("--host", "--port", "--env-file", "docs/configuration.md"))

    def test_version(self, tmp_path: Path) -> None:
        """``--version`` prints the version."""
        result = run_codelab("--version", folder=tmp_path, environ=clean_environ(tmp_path))

        assert (result.returncode, result.stdout.strip()) == (0, f"codelab, version {__version__}")

    def test_an_unknown_command(self, tmp_path: Path) -> None:
        """A typing error is told, with exit code 2."""
        result = run_codelab("server", folder=tmp_path, environ=clean_environ(tmp_path))

        assert result.returncode == 2
        assert "No such command 'server'" in result.stderr
        assert "Traceback" not in result.stderr
