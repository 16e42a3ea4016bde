from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.databases import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresServer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "init-postgres.sh"
DATABASES = ("agent_runtime", "auth_db")


@pytest.fixture
def environment(postgresql: PostgresServer) -> Iterator[dict[str, str]]:
    """What the script finds in the container: psql, the server, and the variables of compose.yaml."""
    if os.environ.get(VARIABLE):
        pytest.skip(f"the script makes databases with fixed names, which may exist on the server of {VARIABLE}")
    assert postgresql.bin is not None
    url = urlsplit(postgresql.url)
    environment = {
        "PATH": f"{postgresql.bin}:/usr/bin:/bin",
        "PGHOST": parse_qs(url.query)["host"][0] if url.query else str(url.hostname),
        "PGPORT": str(url.port or 5432),
        "POSTGRES_USER": str(url.username),
        "POSTGRES_DB": url.path.removeprefix("/"),
    }
    yield environment
    for name in DATABASES:
        psql(environment, f'DROP DATABASE IF EXISTS "{name}"')


def psql(environment: dict[str, str], statement: str) -> str:
    """Run one statement and return what it selects."""
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "-U", user, "-d", database, "-c", statement]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def run_script(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script as the entry point of the image does."""
    return subprocess.run([str(SCRIPT)], env=environment, check=False, capture_output=True, text=True)


def test_script_may_run_again(environment: dict[str, str]) -> None:
    """The first run makes both databases; the second one leaves them, and what is in them, alone."""
    first = run_script(environment)
    for name in DATABASES:
        psql({**environment, "POSTGRES_DB": name}, "CREATE TABLE kept (id integer)")

    second = run_script(environment)

    for run in (first, second):
        assert (0, "", "") == (run.returncode, run.stdout, run.stderr)
    for name in DATABASES:
        assert psql({**environment, "POSTGRES_DB": name}, "SELECT count(*) FROM kept") == "0\n"


def test_script_makes_what_is_missing(environment: dict[str, str]) -> None:
    """A server that has only one of the two gets the other one."""
    psql(environment, "CREATE DATABASE agent_runtime")

    assert run_script(environment).returncode == 0

    assert psql({**environment, "POSTGRES_DB": "auth_db"}, "SELECT current_database()") == "auth_db\n"


def test_failure_stops_the_start_of_the_container(environment: dict[str, str]) -> None:
    """A server that refuses is an error with its own words, not a database that is silently absent."""
    done = run_script({**environment, "POSTGRES_USER": "nobody_here"})

    assert done.returncode != 0
    assert "nobody_here" in done.stderr
