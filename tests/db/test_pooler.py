from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from codelab.db import Database, Limits, parse_url
from codelab.errors import StartError
from tests.db.modules import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterator

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
pytestmark = [
    pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed"),
    pytest.mark.parametrize("dialect", ["postgresql"], indirect=True),
]


@contextmanager
def _pgbouncer(database_url: str, folder: Path, mode: str) -> Iterator[str]:
    """Run PgBouncer before a database, and give the URL of the database through it."""
    assert PGBOUNCER is not None
    url = urlsplit(database_url)
    host = parse_qs(url.query).get("host", [url.hostname or "127.0.0.1"])[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "users.txt").write_text(f'"{url.username}" "{url.password or ""}"\n', encoding="utf-8")
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} port={url.port or 5432} user={url.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\nlogfile = {folder}/log\n",
        encoding="utf-8",
    )
    command = [PGBOUNCER, f"{folder}/pgbouncer.ini"]
    if os.geteuid() == 0:  # PgBouncer does not run as root
        for place in (folder, *folder.iterdir()):
            shutil.chown(place, "nobody")
        for place in (*folder.parents, Path(host)):
            if place.is_dir():
                place.chmod(place.stat().st_mode | 0o011)
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"postgresql://{url.username}@127.0.0.1:{port}{url.path}"
    finally:
        process.terminate()
        process.wait(30)


async def _answers(url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await (await asyncpg.connect(url)).close()
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_pool_in_session_mode_serves(database_url: str, tmp_path: Path) -> None:
    """PgBouncer as it comes will do; the time-outs are in force behind it too."""
    with _pgbouncer(database_url, tmp_path, "session") as url:
        await _answers(url)
        database = Database(parse_url(url, "TEST_DB_URL"), SCHEMAS["agent"], Limits(statement_timeout=7))
        await database.start(0, alone=True)
        async with database.read() as session:
            assert (await session.execute(text("SHOW statement_timeout"))).scalar_one() == "7s"
        await database.stop()


async def test_a_pool_in_transaction_mode_is_refused(database_url: str, tmp_path: Path) -> None:
    """A lock would be nobody's there, so the start says what to name instead."""
    with _pgbouncer(database_url, tmp_path, "transaction") as url:
        await _answers(url)
        database = Database(parse_url(url, "TEST_DB_URL"), SCHEMAS["agent"])
        with pytest.raises(StartError, match=r"TEST_DB_URL \(postgresql.*session mode"):
            await database.start(0, alone=True)
        await database.stop()
