from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from codelab.db import DatabaseUrl, mask_url, parse_url
from codelab.db.engine import create_engine
from codelab.errors import StartError
from tests.db.proxy import Proxy

if TYPE_CHECKING:
    from tests.support.databases import PostgresServer

VARIABLE = "AGENT_RUNTIME__DB_URL"


def _read(url: str) -> DatabaseUrl:
    return parse_url(url, VARIABLE)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "SQLite", "SQLITE+AIOSQLITE"])
class TestSqlite:
    def test_three_slashes_are_relative(self, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path after three slashes counts from the folder in which the server was started, for good."""
        monkeypatch.chdir(tmp_path)
        url = _read(f"{scheme}:///data/agent.db")
        monkeypatch.chdir("/")

        assert (url.dialect, url.path) == ("sqlite", tmp_path / "data" / "agent.db")
        assert url.masked == f"{scheme}:///data/agent.db"

    def test_four_slashes_are_absolute(self, scheme: str) -> None:
        """A path after four slashes is absolute."""
        assert _read(f"{scheme}:////var/lib/agent.db").path == Path("/var/lib/agent.db")

    def test_a_tilde_is_the_home_folder(self, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path that begins with ``~`` is below the home folder."""
        monkeypatch.setenv("HOME", str(tmp_path))

        assert _read(f"{scheme}:///~/agent.db").path == tmp_path / "agent.db"


async def test_sqlite_opens_the_file_of_the_url(tmp_path: Path) -> None:
    """Characters that mean something in URLs mean nothing in the path of a file."""
    path = tmp_path / "a folder" / "50%25 #1 é.db"
    path.parent.mkdir()
    engine = create_engine(_read(f"sqlite:///{path}"), "codelab.test")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE present (id INTEGER)"))
    await engine.dispose()

    assert path.read_bytes().startswith(b"SQLite format 3\0")


async def test_sqlite_works_below_a_folder_with_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder in which the server was started may have any name."""
    folder = tmp_path / "what?mode=memory"
    folder.mkdir()
    monkeypatch.chdir(folder)
    engine = create_engine(_read("sqlite:///agent.db"), "codelab.test")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE present (id INTEGER)"))
    await engine.dispose()

    assert (folder / "agent.db").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite://agent.db", "SQLite needs a file"),
        ("sqlite:///agent.db?mode=ro", "options after '?' are not supported"),
        ("sqlite:///~nobody-has-this-name/agent.db", "home folder of a user who is not known"),
        ("mysql://u@h/db", "the scheme 'mysql' is not supported"),
        ("postgresql+psycopg://u@h/db", "the scheme 'postgresql+psycopg' is not supported"),
        ("sqlite3:///agent.db", "the scheme 'sqlite3' is not supported"),
        ("/var/lib/agent.db", "a value without a scheme is not supported"),
        ("sqlite:agent.db", "a value without a scheme is not supported"),
        (" postgresql://u@h/db", "a value without a scheme is not supported"),
        ("postgresql://u@h:port/db", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h:0/db", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h:65536/db", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h1:1,h2:65536/db", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h/db?sslmode", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h/d b", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h/db\udcff", "cannot be read as a PostgreSQL URL"),
        ("postgresql://u@h/db?connect_timeout=0", "connect_timeout must be a whole number"),
        ("postgresql://u@h/db?connect_timeout=soon", "connect_timeout must be a whole number"),
        (f"postgresql://u@h/db?connect_timeout={'9' * 400}", "connect_timeout must be a whole number"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(url: str, said: str) -> None:
    """The line names the variable and says what is wrong; nothing falls back to another database."""
    with pytest.raises(StartError) as refused:
        _read(url)

    line = str(refused.value)
    assert line.startswith(f"{VARIABLE}: ")
    assert said in line
    assert "\n" not in line


def test_an_unsupported_scheme_is_told_what_is_supported() -> None:
    """Every scheme that works is named in the refusal of one that does not."""
    with pytest.raises(StartError) as refused:
        _read("oracle://h/db")

    schemes = ("sqlite", "sqlite+aiosqlite", "postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2")
    words = set(re.findall(r"[a-z0-9+]+", str(refused.value)))
    assert set(schemes) <= words


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "POSTGRES"])
async def test_every_postgresql_scheme_connects(scheme: str, postgresql: PostgresServer) -> None:
    """The same server answers under each scheme; the driver is asyncpg whatever the URL says."""
    url = _read(scheme + "://" + postgresql.url.partition("://")[2])

    assert url.masked.startswith(f"{scheme}://")
    assert await _ask(url, "SELECT 1") == 1


async def _ask(url: DatabaseUrl, query: str) -> Any:
    engine = create_engine(url, "codelab.test")
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(query))).scalar_one()
    finally:
        await engine.dispose()


def _with(url: str, **options: str) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(f"{name}={value}" for name, value in options.items())


class TestLibpqOptions:
    async def test_application_name(self, postgresql: PostgresServer) -> None:
        """The name shows in the server, and has a default that tells the modules apart."""
        named = _read(_with(postgresql.url, application_name="my%20app"))

        assert await _ask(named, "SHOW application_name") == "my app"
        assert await _ask(_read(postgresql.url), "SHOW application_name") == "codelab.test"

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
    async def test_sslmode_that_allows_no_tls(self, mode: str, postgresql: PostgresServer) -> None:
        """These modes connect to a server without TLS."""
        async with Proxy(postgresql.url) as proxy:
            assert await _ask(_read(_with(proxy.url, sslmode=mode)), "SELECT 1") == 1

    async def test_sslmode_reaches_the_driver(self, postgresql: PostgresServer) -> None:
        """Where TLS is required, a server that refuses it is not talked to in clear."""
        async with Proxy(postgresql.url, refuse_tls=True) as proxy:
            with pytest.raises(ConnectionError):
                await _ask(_read(_with(proxy.url, sslmode="require")), "SELECT 1")

        assert not proxy.spoken

    async def test_sslrootcert_reaches_the_driver(self, postgresql: PostgresServer, tmp_path: Path) -> None:
        """The file of authorities is really read: one without a certificate is an error."""
        (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
        async with Proxy(postgresql.url) as proxy:
            url = _read(_with(proxy.url, sslmode="verify-full", sslrootcert=str(tmp_path / "ca.pem")))
            with pytest.raises(OSError, match=r"(?i)certificate|X509|PEM"):
                await _ask(url, "SELECT 1")

    async def test_target_session_attrs(self, postgresql: PostgresServer) -> None:
        """A server that does not have the asked attribute is not used."""
        assert await _ask(_read(_with(postgresql.url, target_session_attrs="read-write")), "SELECT 1") == 1
        with pytest.raises(Exception, match=r"target_session_attrs|standby|suitable|host"):
            await _ask(_read(_with(postgresql.url, target_session_attrs="standby")), "SELECT 1")

    async def test_connect_timeout(self, postgresql: PostgresServer) -> None:
        """It bounds one attempt to connect, and does not reach the server as a setting."""
        assert _read("postgresql://h/db").connect_timeout == 5
        assert _read("postgresql://h/db?connect_timeout=7").connect_timeout == 7
        assert await _ask(_read(_with(postgresql.url, connect_timeout="7")), "SELECT 1") == 1
        async with Proxy(postgresql.url, silent=True) as proxy:
            with pytest.raises(TimeoutError):
                await _ask(_read(_with(proxy.url, connect_timeout="1")), "SELECT 1")

    async def test_host_is_the_folder_of_a_socket(self, postgresql: PostgresServer) -> None:
        """``host=/folder`` connects through the Unix socket in it, also when its slashes are escaped."""
        folder = parse_qs(urlsplit(postgresql.url).query).get("host", [""])[0]
        if not folder.startswith("/"):
            pytest.skip("the server of this run is not reached through a Unix socket")
        user = urlsplit(postgresql.url).username or "postgres"
        for url in (
            f"postgresql://{user}@/postgres?host={folder}",
            f"postgresql:///postgres?user={user}&host={folder}",
            f"postgresql://{user}@/postgres?host={folder.replace('/', '%2F')}",
            f"postgresql://{user}@{folder.replace('/', '%2F')}/postgres",
        ):
            assert await _ask(_read(url), "SELECT inet_server_addr() IS NULL"), url
            assert _read(url).masked == url

    async def test_several_hosts(self, postgresql: PostgresServer) -> None:
        """Of several servers the first that answers is used."""
        async with Proxy(postgresql.url) as proxy, Proxy(postgresql.url, refuse=True) as dead:
            place = f"{dead.host}:{dead.port},{proxy.host}:{proxy.port}"
            url = proxy.url.replace(f"{proxy.host}:{proxy.port}", place)
            assert await _ask(_read(url), "SELECT 1") == 1

    async def test_a_password_with_reserved_characters(self, postgresql: PostgresServer) -> None:
        """An escaped password reaches the server as it is, in its place and as an option."""
        password = "p@s/s?w#o:r%d&+ =é"
        escaped = "p%40s%2Fs%3Fw%23o%3Ar%25d%26%2B%20%3D%C3%A9"
        async with Proxy(postgresql.url, ask_password=True) as proxy:
            place = f"{proxy.host}:{proxy.port}"
            for url in (f"postgresql://u:{escaped}@{place}/db", f"postgresql://u@{place}/db?password={escaped}"):
                with pytest.raises(Exception, match="closed"):
                    await _ask(_read(url), "SELECT 1")
                assert proxy.password == password


#: URLs whose password is made of the words below, where people and programs put it.
WORDS = ("correct", "horse", "battery")
HOSTILE = [
    "postgresql://u:correct@h/db",
    "POSTGRESQL://u:correct@h/db",
    "PostgreSQL+asyncpg://u:correct@h:5432/db?sslmode=disable",
    "postgres://:correct@h/db",
    "postgresql://u:correct@/db?host=/run/postgresql",
    # Reserved characters, escaped
    *(f"postgresql://u:correct%{code}horse@h/db" for code in ("40", "2F", "3F", "23", "3A", "25", "26", "5B", "20")),
    *(f"postgresql://u@h/db?password=correct%{code}horse" for code in ("40", "2F", "3F", "23", "3A", "25", "26", "5B")),
    # … and not
    *(f"postgresql://u:correct{char}horse@h/db" for char in "@/?#:%&[];=+ \n\t\\\"'é*"),
    *(f"postgresql://u:correct{char}horse@h/db?sslmode=disable" for char in "@/?#:%&[];=+ \n"),
    *(f"postgresql://u:12{char}horse@h/db" for char in "/?#"),
    *(f"postgresql://u@h/db?password=correct{char}horse" for char in "@/?#:%&[];=+ \n"),
    "postgresql://u:correct@horse?battery@h/db",
    "postgresql://u:correct?horse=battery@h/db?sslmode=disable",
    "postgresql://u:correct?horse&password=battery@h/db",
    "postgresql://u:correct/horse?sslmode=battery@h/db",
    "postgresql://u:correct#horse@battery@h/db?application_name=x",
    "postgresql://u:correct@h/db?password=horse@battery",
    "postgresql://h/db?password=correct@horse",
    "postgresql://h:5432/db?password=correct@horse",
    # As an option
    "postgresql://u@h/db?password=correct",
    "postgresql://u@h/db?PASSWORD=correct",
    "postgresql://u@h/db?passwd=correct&pwd=horse",
    "postgresql://u@h/db?sslmode=disable&sslpassword=correct&application_name=x",
    "postgresql://u:correct@h/db?password=horse&sslpassword=battery",
    "postgresql://u@h/db?%70assword=correct",
    "postgresql://u@h/db?ssl%70ass%77ord=correct",
    "postgresql://u@h/db?%50%41%53%53%57%4F%52%44=correct",
    "postgresql://u@h/db?pass+word=correct",
    "postgresql://u@h/db?password%3Dcorrect",
    "postgresql://u@h/db?x=1;password=correct",
    "postgresql://u@h/db?sslmode=disable;password=correct",
    "postgresql://u@h/db?sslmode=disable%3Bpassword%3Dcorrect",
    "postgresql://u@h/db?options=-c%20secret%3Dcorrect",
    "postgresql://u@h/db?secret_token=correct&passphrase=horse",
    "postgresql://u@h/db#password=correct",
    "postgresql://u@h/db;password=correct",
    "postgresql://h/db;password=correct@x/db",
    # What is no URL of ours
    "postgresql://u:correct",
    "postgresql://u:correct/db",
    "postgresql://u:correct@h:horse/db",
    "postgresql://u:correct@h1:1,h2:horse/db",
    "postgresql:/u:correct@h/db",
    "postgresql:u:correct@h/db",
    "postgresql:correct@h/db://x",
    "u:correct@postgresql://h/db",
    " postgresql://u:correct@h/db",
    "'postgresql://u:correct@h/db'",
    "host=h user=u password=correct dbname=db",
    "correct",
    "mysql://u:correct@h/db?password=horse",
    "sqlite://u:correct@h/db",
    "sqlite:///agent.db?password=correct",
    "sqlite+pysqlcipher://:correct@/agent.db",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_no_part_of_a_password_is_ever_shown(url: str) -> None:
    """Neither the masked URL, nor a refusal, nor a repr holds a word of the password."""
    shown = [mask_url(url)]
    try:
        read = _read(url)
    except StartError as error:
        shown += [str(error), repr(error)]
    else:
        shown += [read.masked, repr(read)]

    assert any(word in url for word in WORDS)
    assert [line for line in shown if any(word in line for word in WORDS)] == []
    assert [line for line in shown if "\n" in line] == []


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (
            "postgresql://codelab:secret@postgres:5432/agent_runtime",
            "postgresql://codelab:***@postgres:5432/agent_runtime",
        ),
        ("postgresql://codelab@db/agent", "postgresql://codelab@db/agent"),
        ("postgresql://db/agent", "postgresql://db/agent"),
        ("postgresql://u:p@[::1]:5432/d-b", "postgresql://u:***@[::1]:5432/d-b"),
        ("postgresql://u:p@h1:1,h2:2/db", "postgresql://u:***@h1:1,h2:2/db"),
        (
            "postgresql://u:p@h/db?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3&password=x",
            "postgresql://u:***@h/db?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3&password=***",
        ),
        (
            "postgresql://u@h/db?application_name=my%20app&target_session_attrs=read-write",
            "postgresql://u@h/db?application_name=my%20app&target_session_attrs=read-write",
        ),
        ("sqlite:////data/a@b:c.db", "sqlite:////data/a@b:c.db"),
    ],
)
def test_what_is_no_secret_stays_readable(url: str, masked: str) -> None:
    """The masked URL says where the data is, in the words of the configuration."""
    assert _read(url).masked == masked


def test_the_password_is_nowhere_but_in_the_dsn() -> None:
    """Only the DSN that goes to the driver has the password, and it is not part of the repr."""
    url = _read("postgresql+psycopg2://u:correct@h/db?sslpassword=horse")

    assert url.dsn == "postgresql://u:correct@h/db?sslpassword=horse"
    others = {name: value for name, value in vars(url).items() if name != "dsn"}
    assert not re.search("correct|horse", repr(others) + repr(url) + os.fspath(url.path or ""))
