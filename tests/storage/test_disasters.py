"""The bad days of an operator: each with the line that is seen, and nothing lost that was promised."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import event

from codelab.db import parse_url
from codelab.errors import StartError
from tests.db.modules import make_module_database
from tests.db.proxy import Proxy
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection

    from tests.support.databases import DatabaseUrls, PostgresServer

sqlite_only = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
postgresql_only = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)


@contextlib.asynccontextmanager
async def superuser(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of the owner of the server."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def name_of(url: str) -> str:
    """Return the name of a database."""
    return urlsplit(url).path.removeprefix("/")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_an_encoding_that_cannot_hold_every_text(postgresql: PostgresServer, encoding: str) -> None:
    """A database that is not UTF-8 is refused at the start, with the command that makes a right one."""
    name = f"codelab_test_{uuid.uuid4().hex}"
    async with superuser(postgresql.url) as connection:
        await connection.execute(f"CREATE DATABASE \"{name}\" ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    url = urlsplit(postgresql.url)._replace(path=f"/{name}").geturl()
    database = make_module_database("auth", url)
    try:
        with pytest.raises(StartError, match=f"its encoding is {encoding}, which cannot hold every text") as refused:
            await database.start(0)
    finally:
        await database.stop()
        postgresql.drop(url)

    assert "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0" in str(refused.value)


#: Started by whoever runs the tests, also root, whom no permission stops; then somebody else's.
UNPRIVILEGED = """
import asyncio, os, sys
from tests.db.modules import make_module_database
import codelab.app, codelab.storage.status, codelab.cli.db.status, sqlalchemy.dialects.sqlite.aiosqlite
database = make_module_database("auth", sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    try:
        await database.start(0)
    except codelab.errors.StartError as error:
        print(error)
    finally:
        await database.stop()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_written(what: str) -> None:
    """A file or a folder that is read-only is refused at the start with one line."""
    folder = Path(tempfile.mkdtemp(prefix="codelab-readonly-"))
    try:
        place = folder / "auth.db"
        place.touch()
        place.chmod(0o666 if what == "folder" else 0o444)
        folder.chmod(0o777 if what == "file" else 0o555)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, f"sqlite:///{place}"], capture_output=True, text=True, check=False
        )
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("AUTH_SERVICE__DB_URL (sqlite:///")
    assert "readonly database" in line or "unable to open database file" in line


@sqlite_only
async def test_a_full_disk_while_serving(migrated: DatabaseUrls, tmp_path: Path) -> None:
    """What cannot be kept is answered with 503, nothing that was acknowledged is lost, and room heals it."""
    async with serving(make_settings(migrated, tmp_path)) as server:
        ada = await server.person()
        kept = await ada.session(agent="ask")
        engine = server.app.state.agent.database.engine
        limit = "PRAGMA max_page_count = 1"

        @event.listens_for(engine.sync_engine, "begin")
        def _full(connection: Connection) -> None:
            connection.exec_driver_sql(limit)

        said = []
        refused = None
        while refused is None:
            answer = await ada.http.post("/api/v1/sessions", json={"title": "x" * 400})
            if answer.status_code == 201:
                said.append(answer.json()["id"])
            else:
                refused = answer
        limit = "PRAGMA max_page_count = 1073741823"
        healed = await ada.session(agent="ask")
        for session in (kept, *said, healed):
            assert (await ada.http.get(f"/api/v1/sessions/{session}")).status_code == 200

    assert refused.status_code == 503, refused.text


@postgresql_only
async def test_a_role_that_is_revoked_while_serving(
    migrated: DatabaseUrls, postgresql: PostgresServer, tmp_path: Path
) -> None:
    """The server says 503 and not ready while its role may not log in, and serves on once it may."""
    role = f"codelab_{uuid.uuid4().hex[:12]}"
    async with superuser(postgresql.url) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
        try:
            agent = urlsplit(migrated.agent)
            place = agent.netloc.rpartition("@")[2]
            url = agent._replace(netloc=f"{role}@{place}").geturl()
            async with serving(make_settings(type(migrated)(url, migrated.auth), tmp_path)) as server:
                ada = await server.person()
                session = await ada.session(agent="ask")
                await connection.execute(f"ALTER ROLE {role} NOLOGIN")
                await _end_backends(connection, migrated.agent)
                refused = await ada.http.get(f"/api/v1/sessions/{session}")
                ready = await server.http.get("/ready")
                await connection.execute(f"ALTER ROLE {role} LOGIN")
                async with asyncio.timeout(30):
                    while (await server.http.get("/ready")).status_code != 200:
                        await asyncio.sleep(0.05)
                assert (await ada.http.get(f"/api/v1/sessions/{session}")).status_code == 200
        finally:
            await _end_backends(connection, migrated.agent)
            await connection.execute(f"DROP ROLE {role}")

    assert refused.status_code == 503, refused.text
    assert ready.status_code == 503


async def _end_backends(connection: asyncpg.Connection, url: str) -> None:
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name_of(url))


@postgresql_only
async def test_postgresql_goes_away_under_load(
    migrated: DatabaseUrls, postgresql: PostgresServer, tmp_path: Path
) -> None:
    """Every connection ends and none is taken for a while, as at a restart: nothing acknowledged is lost."""
    async with serving(make_settings(migrated, tmp_path)) as server:
        ada = await server.person()
        session = await ada.session(agent="ask")
        acknowledged: list[str] = []
        states: list[int] = []

        async def talk(until: int) -> None:
            while len(acknowledged) < until:
                answer = await ada.http.post(f"/api/v1/sessions/{session}/messages", json={"content": "count to 2"})
                states.append(answer.status_code)
                if answer.status_code == 202:
                    acknowledged.append(answer.json()["message_id"])
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(talk(60))
        async with superuser(postgresql.url) as connection, asyncio.timeout(100):
            while len(acknowledged) < 10:
                await asyncio.sleep(0.02)
            name = name_of(migrated.agent)
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await _end_backends(connection, migrated.agent)
            while states[-1] == 202:
                await asyncio.sleep(0.02)
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await talking
        history = await ada.history(session)

    asked = [message["id"] for message in history if message["role"] == "user"]
    assert [message for message in asked if message in set(acknowledged)] == acknowledged
    assert set(states) <= {202, 503}


@postgresql_only
async def test_a_lost_lock_is_taken_again(
    migrated: DatabaseUrls, postgresql: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """When the connection that holds the lock of the serving process ends, it is noticed, and a second is refused."""
    caplog.set_level(logging.WARNING)
    first, second = (make_module_database("agent", migrated.agent) for _ in range(2))
    try:
        await first.start(5, alone=True)
        async with superuser(postgresql.url) as connection:
            await _end_backends(connection, migrated.agent)
        async with asyncio.timeout(60):
            while "was taken again" not in caplog.text:
                await asyncio.sleep(0.05)
        with pytest.raises(StartError, match="another codelab server uses this database"):
            await second.start(0, alone=True)
    finally:
        await first.stop()
        await second.stop()


@postgresql_only
async def test_a_lock_that_a_lost_connection_still_holds(
    migrated: DatabaseUrls, caplog: pytest.LogCaptureFixture
) -> None:
    """The network fails and PostgreSQL does not notice: the server takes its lock from its own old session."""
    caplog.set_level(logging.WARNING)
    async with Proxy(migrated.agent) as proxy:
        database = make_module_database("agent", f"{proxy.url}?sslmode=disable")
        try:
            await database.start(5, alone=True)
            await proxy.lose()
            async with asyncio.timeout(60):
                while "was taken again" not in caplog.text:
                    assert not database.taken_over.is_set()
                    await asyncio.sleep(0.05)
            assert database.ready
        finally:
            await database.stop()


@postgresql_only
async def test_a_server_that_was_taken_over_stops(migrated: DatabaseUrls, postgresql: PostgresServer) -> None:
    """When somebody else has the lock meanwhile, the first takes no writes any more, and says why."""
    first = make_module_database("agent", migrated.agent)
    try:
        await first.start(5, alone=True)
        dsn = parse_url(migrated.agent, "TEST").dsn
        async with superuser(dsn) as other, superuser(postgresql.url) as connection:
            mine = await other.fetchval("SELECT pg_backend_pid()")
            waiting = asyncio.create_task(other.execute("SELECT pg_advisory_lock(hashtext('codelab.agent.serving'))"))
            query = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted"
            while not await connection.fetchval(query, mine):
                await asyncio.sleep(0.02)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2",
                name_of(migrated.agent),
                mine,
            )
            await waiting
            async with asyncio.timeout(60):
                await first.taken_over.wait()
    finally:
        await first.stop()

    assert "another codelab server took this database over" in first.taken_over_line
    assert not first.ready
