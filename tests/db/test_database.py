from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from codelab.app import create_app
from codelab.errors import Unavailable
from tests.db.modules import MODULES, SCHEMAS, make_module_database
from tests.db.proxy import Proxy
from tests.support.apps import talking
from tests.support.databases import DatabaseUrls
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codelab.db import Transaction
    from tests.support.databases import PostgresServer


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseUrls]:
    """Where the two modules have their data, in the way that the parameter names."""
    made: list[str] = []

    def make_postgresql() -> str:
        server: PostgresServer = request.getfixturevalue("postgresql")
        made.append(server.create())
        return made[-1]

    file = f"sqlite:///{tmp_path}/one.db"
    match request.param:
        case "one-file":
            yield DatabaseUrls(file, file)
        case "one-database":
            url = make_postgresql()
            yield DatabaseUrls(url, url)
        case "sqlite-and-postgresql":
            yield DatabaseUrls(file, make_postgresql())
        case "postgresql-and-sqlite":
            yield DatabaseUrls(make_postgresql(), file)
    for url in made:
        request.getfixturevalue("postgresql").drop(url)


class TestTwoModules:
    @pytest.mark.parametrize(
        "both", ["one-file", "one-database", "sqlite-and-postgresql", "postgresql-and-sqlite"], indirect=True
    )
    async def test_they_may_share_a_database_or_have_different_ones(self, both: DatabaseUrls, tmp_path: Path) -> None:
        """However the two are placed, people log in and talk, also after a restart."""
        settings = make_settings(both, tmp_path)
        form = {"grant_type": "password", "client_id": "codelab-flutter-app", "username": "admin"}
        for known in (0, 1):
            async with talking(create_app(settings, issuer="http://testserver")) as http:
                assert (await http.get("/ready")).json() == {"ready": True, "auth": True, "agent": True}
                login = await http.post("/oauth/token", data={**form, "password": "correct horse battery"})
                assert login.status_code == 200, login.text
                http.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
                sessions = (await http.get("/api/v1/sessions")).json()["sessions"]
                assert len(sessions) == known
                assert (await http.post("/api/v1/sessions", json={"title": "kept"})).status_code == 201

    async def test_their_tables_do_not_clash(self) -> None:
        """No table has the same name in both modules, the version tables included."""
        names = [name for module in MODULES for name in (*SCHEMAS[module].metadata.tables, f"{module}_alembic_version")]

        assert len(names) == len(set(names))

    async def test_each_migrates_its_own_tables_only(self, database_url: str) -> None:
        """In a shared database a module makes no table of the other."""
        auth = make_module_database("auth", database_url)
        await auth.start(0)
        async with auth.engine.connect() as connection:
            found = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
        await auth.stop()

        assert found == {*SCHEMAS["auth"].metadata.tables, "auth_alembic_version"}

    async def test_many_starters_at_once(self, database_url: str) -> None:
        """Five processes that start both modules on one empty database at the same time all succeed."""
        program = (
            "import asyncio, sys\n"
            "from tests.db.modules import MODULES, make_module_database\n"
            "async def main():\n"
            "    databases = [make_module_database(module, sys.argv[1]) for module in MODULES]\n"
            "    print('here', flush=True)\n"
            "    sys.stdin.read()\n"
            "    for database in databases:\n"
            "        await database.start(5)\n"
            "    for database in databases:\n"
            "        await database.stop()\n"
            "    print('done')\n"
            "asyncio.run(main())\n"
        )
        starters = [
            subprocess.Popen(  # noqa: ASYNC220 - they are waited for in turn
                [sys.executable, "-W", "ignore", "-c", program, database_url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(5)
        ]
        for starter in starters:
            assert starter.stdout is not None
            assert starter.stdout.readline() == "here\n"
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.close()
            starter.stdin = None

        assert [starter.communicate(timeout=60) for starter in starters] == [("done\n", "")] * 5
        for module in MODULES:
            database = make_module_database(module, database_url)
            await database.start(0)
            assert await database.ping()
            await database.stop()


class TestLife:
    async def test_start_says_where_the_data_is(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        """One line in the log, exactly as the reference writes it."""
        caplog.set_level(logging.INFO)
        database = make_module_database("auth", database_url)
        await database.start(0)
        await database.stop()

        messages = [record.message for record in caplog.records if record.name.startswith("codelab")]
        assert messages == [f"Database initialized with URL: {database.url.masked}"]

    async def test_it_is_ready_between_start_and_stop(self, database_url: str) -> None:
        """Only a started database answers, and only it takes writes."""

        async def unit(transaction: Transaction) -> int:
            return int((await transaction.session.execute(text("SELECT 42"))).scalar_one())

        database = make_module_database("auth", database_url)
        assert not await database.ping()
        with pytest.raises(Unavailable):
            await database.write(unit)
        await database.start(0)
        assert await database.ping()
        assert await database.write(unit) == 42
        async with database.read() as session:
            assert (await session.execute(text("SELECT 42"))).scalar_one() == 42
        await database.stop()
        assert not await database.ping()
        with pytest.raises(Unavailable):
            await database.write(unit)

    @pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
    async def test_it_is_not_ready_while_its_server_is_away(self, database_url: str) -> None:
        """A database whose server goes away says so, and is back with it."""
        async with Proxy(database_url) as proxy:
            database = make_module_database("auth", f"{proxy.url}?sslmode=disable")
            await database.start(0)
            assert await database.ping()
            proxy.on_client = lambda _data: "before"
            assert not await database.ping()
            proxy.on_client = lambda _data: None
            assert await database.ping()
            await database.stop()
