from __future__ import annotations

import asyncio
import logging
import sys
import traceback
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from codelab.errors import StartError
from tests.db.modules import make_module_database
from tests.db.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import PostgresServer

PASSWORD = "hunter2"


async def refusal(url: str, wait: float = 0) -> StartError:
    """Start the database of module ``auth`` and return why it refused; leaves nothing open."""
    database = make_module_database("auth", url)
    try:
        async with asyncio.timeout(30):
            await database.start(wait)
    except StartError as error:
        assert not database.ready
        return error
    finally:
        await database.stop()
    raise AssertionError("it started")


def assert_one_line_without_secret(error: StartError, caplog: pytest.LogCaptureFixture) -> None:
    """One line that names the variable; no password in it, in its traceback or in any log record."""
    assert str(error).startswith("AUTH_SERVICE__DB_URL (")
    assert "\n" not in str(error)
    everything = "".join(traceback.format_exception(error)) + caplog.text + repr(error)
    assert PASSWORD not in everything


class TestSqliteRefusals:
    @pytest.fixture(autouse=True)
    def _everything(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    async def test_a_file_that_is_no_database(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A text file is neither opened nor changed."""
        (tmp_path / "notes.txt").write_text("dear diary\n" * 500, encoding="utf-8")
        error = await refusal(f"sqlite:///{tmp_path}/notes.txt")

        assert_one_line_without_secret(error, caplog)
        assert "file is not a database" in str(error)
        assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "dear diary\n" * 500

    async def test_a_folder_as_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A folder cannot be a database."""
        error = await refusal(f"sqlite:///{tmp_path}")

        assert_one_line_without_secret(error, caplog)
        assert "unable to open database file" in str(error)

    async def test_a_folder_that_cannot_be_made(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The line names the folder."""
        (tmp_path / "file").touch()
        error = await refusal(f"sqlite:///{tmp_path}/file/below/auth.db")

        assert_one_line_without_secret(error, caplog)
        assert f"cannot make the folder {tmp_path}/file/below" in str(error)

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
    @pytest.mark.parametrize("path", ["/proc/codelab.db", "/proc/codelab/codelab.db"])
    async def test_a_folder_that_takes_no_files(self, path: str, caplog: pytest.LogCaptureFixture) -> None:
        """A folder in which nobody may write, not even root, is refused."""
        assert_one_line_without_secret(await refusal(f"sqlite:///{path}"), caplog)

    async def test_a_name_that_is_too_long(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What the file system refuses is refused, for the file and for its folder."""
        for path in (f"{'x' * 300}.db", f"{'x' * 300}/auth.db"):
            assert_one_line_without_secret(await refusal(f"sqlite:///{tmp_path}/{path}"), caplog)

    async def test_folders_are_made(self, tmp_path: Path) -> None:
        """Folders that are missing are made, as deep as it takes."""
        database = make_module_database("auth", f"sqlite:///{tmp_path}/a/b/c/auth.db")
        await database.start(0)
        await database.stop()

        assert (tmp_path / "a/b/c/auth.db").exists()


class TestPostgresqlRefusals:
    @pytest.fixture(autouse=True)
    def _everything(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    @pytest.fixture
    def closed(self, postgresql: PostgresServer) -> Proxy:
        """A port on which nobody listens, for now."""
        return Proxy(postgresql.url, refuse=True)

    @pytest.mark.parametrize(
        "form",
        [
            f"u:{PASSWORD}@{{place}}/db",
            f"u@{{place}}/db?password={PASSWORD}",
            f"u@{{place}}/db?sslmode=disable&sslpassword={PASSWORD}",
            f"u@{{place}}/db?p%61ssword={PASSWORD}",
        ],
    )
    @pytest.mark.parametrize("wait", [0.0, 1.0])
    async def test_nobody_listens(
        self, form: str, wait: float, closed: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is tried for as long as CODELAB_DB_WAIT says, with a line in the log for each try, then refused."""
        async with closed:
            error = await refusal("postgresql://" + form.format(place=f"{closed.host}:{closed.port}"), wait)

        assert_one_line_without_secret(error, caplog)
        assert f"no answer within {wait:g} s (CODELAB_DB_WAIT)" in str(error)
        tries = [record for record in caplog.records if "trying again" in record.message]
        assert bool(tries) == bool(wait)
        assert all("***" in record.message for record in tries)

    async def test_a_server_that_says_nothing(
        self, postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A port that takes connections and never answers is given up after ``connect_timeout``."""
        async with Proxy(postgresql.url, silent=True) as proxy:
            place = f"{proxy.host}:{proxy.port}"
            error = await refusal(f"postgresql://u:{PASSWORD}@{place}/db?connect_timeout=1")

        assert_one_line_without_secret(error, caplog)
        assert "timed out" in str(error)

    async def test_a_host_that_does_not_exist(self, caplog: pytest.LogCaptureFixture) -> None:
        """``.invalid`` never has an address (RFC 6761)."""
        error = await refusal(f"postgresql://u:{PASSWORD}@nobody.invalid/db")

        assert_one_line_without_secret(error, caplog)
        assert "no answer within 0 s" in str(error)

    @pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example"])
    async def test_a_host_that_cannot_exist(self, host: str, caplog: pytest.LogCaptureFixture) -> None:
        """A name that no host can have is not waited for."""
        error = await refusal(f"postgresql://u:{PASSWORD}@{host}/db", wait=20)

        assert_one_line_without_secret(error, caplog)
        assert "the name of the host cannot be used" in str(error)
        assert "trying again" not in caplog.text

    async def test_a_folder_without_socket(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """No socket is like no server: it may come."""
        error = await refusal(f"postgresql://u:{PASSWORD}@/db?host={tmp_path}")

        assert_one_line_without_secret(error, caplog)
        assert "no answer within 0 s" in str(error)

    @pytest.mark.parametrize("option", ["sslmode=perhaps", "target_session_attrs=best", "sslrootcert=/nowhere/ca.pem"])
    async def test_options_that_cannot_work(self, option: str, closed: Proxy, caplog: pytest.LogCaptureFixture) -> None:
        """An option that no server can satisfy is not waited for."""
        async with closed:
            url = f"postgresql://u:{PASSWORD}@{closed.host}:{closed.port}/db?{option}"
            error = await refusal(url, wait=20)

        assert_one_line_without_secret(error, caplog)
        assert "trying again" not in caplog.text

    async def test_a_file_without_certificates(
        self, closed: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file of authorities that holds none is not waited for."""
        (tmp_path / "ca.pem").write_text("nothing", encoding="ascii")
        async with closed:
            place = f"{closed.host}:{closed.port}"
            options = f"sslmode=verify-full&sslrootcert={tmp_path}/ca.pem"
            error = await refusal(f"postgresql://u:{PASSWORD}@{place}/db?{options}", wait=20)

        assert_one_line_without_secret(error, caplog)
        assert "certificate" in str(error)
        assert "trying again" not in caplog.text

    async def test_a_database_that_does_not_exist(
        self, postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is not waited for, and the line names it."""
        url = urlsplit(postgresql.url)._replace(path="/nobody_made_this").geturl()
        error = await refusal(url, wait=20)

        assert_one_line_without_secret(error, caplog)
        assert 'database "nobody_made_this" does not exist' in str(error)
        assert "trying again" not in caplog.text

    async def test_a_user_who_does_not_exist(
        self, postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither is a user whom the server does not know."""
        async with Proxy(postgresql.url) as proxy:
            place = f"{proxy.host}:{proxy.port}"
            error = await refusal(f"postgresql://nobody:{PASSWORD}@{place}/postgres", wait=20)

        assert_one_line_without_secret(error, caplog)
        assert "nobody" in str(error)
        assert "trying again" not in caplog.text

    async def test_a_wrong_password(
        self, postgresql: PostgresServer, database_with_password: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that asks for a password and gets another one is not asked again."""
        right = make_module_database("auth", database_with_password)
        await right.start(0)
        await right.stop()
        wrong = database_with_password.replace("correct", PASSWORD)
        for url in (wrong, wrong.replace(f":{PASSWORD}@", "@") + f"&password={PASSWORD}"):
            caplog.clear()
            error = await refusal(url, wait=20)

            assert_one_line_without_secret(error, caplog)
            assert "password authentication failed" in str(error)
            assert "trying again" not in caplog.text

    @pytest.fixture
    async def database_with_password(self, postgresql: PostgresServer) -> AsyncIterator[str]:
        """The URL of an empty database whose owner has to give the password ``correct``."""
        empty = postgresql.create()
        name, role = urlsplit(empty).path.removeprefix("/"), f"codelab_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(postgresql.url)
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'correct'")
        await admin.execute(f'ALTER DATABASE "{name}" OWNER TO {role}')
        async with asked_for_password(admin, role), Proxy(postgresql.url) as proxy:
            yield f"postgresql://{role}:correct@{proxy.host}:{proxy.port}/{name}?sslmode=disable"
        postgresql.drop(empty)
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()

    async def test_a_database_without_the_right_to_make_tables(
        self, postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What the server forbids is told in its words."""
        empty = postgresql.create()
        role = f"codelab_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(postgresql.url)
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        async with Proxy(postgresql.url) as proxy:
            place = f"{proxy.host}:{proxy.port}{urlsplit(empty).path}"
            error = await refusal(f"postgresql://{role}:{PASSWORD}@{place}?sslmode=disable", wait=20)
        postgresql.drop(empty)
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()

        assert_one_line_without_secret(error, caplog)
        assert "cannot be migrated: permission denied for schema public" in str(error)

    async def test_a_server_that_comes_up_later_is_waited_for(
        self, database_with_password: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The start succeeds as soon as PostgreSQL answers, and its log line hides the password."""
        async with Proxy(database_with_password, refuse=True) as later:
            database = make_module_database("auth", f"{later.url}?sslmode=disable")
            starting = asyncio.create_task(database.start(60))
            async with asyncio.timeout(30):
                while "trying again" not in caplog.text:
                    await asyncio.sleep(0.01)
            await later.listen()
            await starting
            assert await database.ping()
            await database.stop()

        role = urlsplit(database_with_password).username
        place = f"{later.host}:{later.port}{urlsplit(database_with_password).path}"
        masked = f"postgresql://{role}:***@{place}?sslmode=disable"
        assert f"Database initialized with URL: {masked}" in [record.message for record in caplog.records]
        assert "correct" not in caplog.text


@asynccontextmanager
async def asked_for_password(admin: asyncpg.Connection, role: str) -> AsyncIterator[None]:
    """Make a server that trusts everybody ask this one role for its password."""
    file = await admin.fetchval("SELECT current_setting('hba_file')")
    before = await admin.fetchval("SELECT pg_read_file($1)", file)

    async def write(content: str) -> None:
        lines = content.replace("'", "''")
        await admin.execute(f"COPY (SELECT string_to_table('{lines}', E'\\n')) TO '{file}'")
        await admin.execute("SELECT pg_reload_conf()")

    await write(f"local all {role} scram-sha-256\nhost all {role} all scram-sha-256\n{before}")
    try:
        async with asyncio.timeout(30):
            while not await admin.fetchval("SELECT count(*) FROM pg_hba_file_rules WHERE user_name = $1", [role]):
                await asyncio.sleep(0.01)
        yield
    finally:
        await write(before)
