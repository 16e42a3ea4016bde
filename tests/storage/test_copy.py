"""What ``codelab db copy`` refuses, replaces and leaves alone."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codelab.db.serving import FileClaim
from codelab.installation import MODULES
from tests.storage.commands import call, digests, document, refused
from tests.storage.hostile import contents
from tests.storage.processes import run_limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import DatabaseUrls

AUTH = MODULES["auth"].schema.metadata
AGENT = MODULES["agent"].schema.metadata


def execute(url: str, statement: str, *values: Any) -> list[Any]:
    """Execute a statement on a SQLite database."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        return connection.execute(statement, values).fetchall()


def test_a_target_with_data_is_left_alone(hostile: DatabaseUrls, make: Callable[[str], str], dialect: str) -> None:
    """A target that has the tables is refused; ``--replace`` puts the source in their place, a second time too."""
    target = make(dialect)
    document("copy", "--from", hostile.auth, "--to", target)
    before = contents(target, AUTH)
    execute(hostile.auth, "DELETE FROM refresh_tokens")

    line = refused("copy", "--from", hostile.auth, "--to", target, code=2)
    assert "it already has the tables of module auth" in line
    assert "--replace" in line
    assert contents(target, AUTH) == before

    for _ in range(2):
        document("copy", "--from", hostile.auth, "--to", target, "--replace")
        assert contents(target, AUTH) == contents(hostile.auth, AUTH) != before


def test_the_other_module_is_never_touched(hostile: DatabaseUrls, make: Callable[[str], str], dialect: str) -> None:
    """Both modules may share a database: what is done to one leaves the tables of the other as they are."""
    shared = make(dialect)
    document("copy", "--from", hostile.agent, "--to", shared)
    document("copy", "--from", hostile.auth, "--to", shared)
    document("copy", "--from", hostile.auth, "--to", shared, "--replace")

    assert contents(shared, AGENT) == contents(hostile.agent, AGENT)
    assert contents(shared, AUTH) == contents(hostile.auth, AUTH)

    other = make(dialect)
    document("copy", "--from", shared, "--to", other, "--module", "agent")
    line = refused("copy", "--from", other, "--to", make(dialect), "--module", "auth", code=2)
    assert "it has no tables of module auth" in line


def test_a_database_is_not_copied_to_itself(migrated: DatabaseUrls, dialect: str, make: Callable[[str], str]) -> None:
    """A target that is the source is refused by whatever name, and keeps its rows."""
    before = contents(migrated.auth, AUTH)
    if dialect == "sqlite":
        folder, _, name = migrated.auth.rpartition("/")
        other = f"{folder}/../{folder.rpartition('/')[2]}/{name}"
    else:
        other = f"{migrated.auth}{'&' if '?' in migrated.auth else '?'}application_name=other"

    for target in (migrated.auth, other):
        line = refused("copy", "--from", migrated.auth, "--to", target, "--replace", code=2)
        assert "this is the database that is read" in line

    assert contents(migrated.auth, AUTH) == before


def test_a_target_that_is_served_is_left_alone(hostile: DatabaseUrls, make: Callable[[str], str]) -> None:
    """A server would go on with what it knows of the old rows, so ``--replace`` does not work under it."""
    target = make("sqlite")
    document("copy", "--from", hostile.auth, "--to", target)
    claim = FileClaim(Path(target.removeprefix("sqlite:///")), "auth")
    claim._lock.acquire()
    try:
        line = refused("copy", "--from", hostile.auth, "--to", target, "--replace", code=2)
    finally:
        claim._lock.release()
    assert "another codelab server uses this database" in line


def test_text_that_postgresql_cannot_hold(hostile: DatabaseUrls, make: Callable[[str], str]) -> None:
    """Rows from before the rule are named by key before anything is written; ``--nul replace`` puts U+FFFD there."""
    execute(hostile.auth, "UPDATE users SET email = 'a' || char(0) || 'b' WHERE rowid = 1")
    execute(hostile.auth, "UPDATE users SET email = CAST(x'61ff63' AS TEXT) WHERE rowid = 2")
    keys = [row[0] for row in execute(hostile.auth, "SELECT id FROM users WHERE rowid < 3 ORDER BY rowid")]
    target = make("postgresql")

    result = call("copy", "--from", hostile.auth, "--to", target)
    assert result.exit_code == 1
    named = result.stderr.splitlines()
    assert any(f"auth: users id={keys[0]!r}: email holds U+0000" == line for line in named), named
    assert any(f"auth: users id={keys[1]!r}: email is no valid UTF-8" == line for line in named), named
    assert named[-1] == (
        "codelab: 2 values cannot be moved; --nul replace puts U+FFFD in its place. Nothing was written."
    )
    machine = call("copy", "--from", hostile.auth, "--to", target, "--json")
    assert {item["reason"] for item in json.loads(machine.stdout)["unportable"]} == {
        "holds U+0000",
        "is no valid UTF-8",
    }

    answer = call("copy", "--from", hostile.auth, "--to", target, "--nul", "replace", "--json")
    assert answer.exit_code == 0, answer.stderr
    listed = json.loads(answer.stdout)["modules"]["auth"]["replaced"]
    assert sorted(item["key"]["id"] for item in listed) == sorted(keys)
    back = make("sqlite")
    second = document("copy", "--from", target, "--to", back)
    assert digests(second) == digests(json.loads(answer.stdout))
    found = execute(back, "SELECT email FROM users WHERE id IN (?, ?) ORDER BY email", *keys)
    assert found == [("a\ufffdb",), ("a\ufffdc",)]


def test_replaced_text_that_must_differ(hostile: DatabaseUrls, make: Callable[[str], str]) -> None:
    """Two names that only U+0000 told apart cannot both be moved: the copy stops, and the target is as it was."""
    execute(hostile.auth, "UPDATE users SET email = 'a' || char(0) || 'b' WHERE rowid = 1")
    execute(hostile.auth, "UPDATE users SET email = CAST(x'61ff62' AS TEXT) WHERE rowid = 2")

    result = call("copy", "--from", hostile.auth, "--to", make("postgresql"), "--nul", "replace")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == 'codelab: could not create unique index "ix_users_email"'


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("is_active", "'yes'", "is neither 0 nor 1"),
        ("is_active", "7", "is neither 0 nor 1"),
        ("created_at", "'yesterday'", "is no timestamp"),
        ("created_at", "1700000000", "is no timestamp"),
        ("username", "x'00ff'", "is no text"),
        ("username", "printf('%300s', 'a')", "is longer than 255 characters"),
    ],
)
def test_values_of_another_kind_are_named(
    hostile: DatabaseUrls, make: Callable[[str], str], column: str, value: str, reason: str
) -> None:
    """SQLite takes any value in any column; what PostgreSQL would refuse is named, and nothing is written."""
    execute(hostile.auth, f"UPDATE users SET {column} = {value} WHERE rowid = 3")  # noqa: S608 - our own
    target = make("postgresql")

    result = call("copy", "--from", hostile.auth, "--to", target, "--nul", "replace")

    assert result.exit_code == 1
    assert f"{column} {reason}" in result.stderr
    assert result.stderr.splitlines()[-1] == "codelab: 1 values cannot be moved. Nothing was written."
    assert "it has no tables" in refused("copy", "--from", target, "--to", make("sqlite"), code=2)


def test_broken_references_are_refused(hostile: DatabaseUrls, make: Callable[[str], str], dialect: str) -> None:
    """A row whose parent is gone stops the copy, and the target is as it was."""
    execute(hostile.agent, "PRAGMA foreign_keys = OFF")
    execute(hostile.agent, "DELETE FROM agent_contexts")
    target = make(dialect)

    result = call("copy", "--from", hostile.agent, "--to", target)

    assert result.exit_code == 1, result.output
    assert "agent_switches" in result.stderr
    assert f"agent: {'sqlite' if dialect == 'sqlite' else 'postgresql'}:" in result.stderr
    assert "is as it was" in result.stderr
    document("copy", "--from", hostile.auth, "--to", target)


@pytest.mark.parametrize(
    ("source", "target", "part"),
    [
        ("sqlite:////nowhere/at/all.db", "sqlite:////tmp/x.db", "there is no such file"),
        ("mysql://x/y", "sqlite:////tmp/x.db", "--from: the scheme 'mysql' is not supported"),
    ],
)
def test_urls_that_cannot_be_used(source: str, target: str, part: str) -> None:
    """A URL that cannot be used is refused with one line that names the option."""
    assert part in refused("copy", "--from", source, "--to", target, code=2)


def test_a_disk_that_is_full(hostile: DatabaseUrls, make: Callable[[str], str], tmp_path: Path) -> None:
    """One line, and the target keeps what it had."""
    target = make("sqlite")
    document("copy", "--from", hostile.auth, "--to", target)
    before = contents(target, AUTH)

    answer = run_limited(
        "db", "copy", "--from", hostile.auth, "--to", target, "--replace", folder=tmp_path, limit=100_000
    )

    assert answer.returncode == 2, answer.stderr
    line = answer.stderr.splitlines()[-1]
    assert line.startswith("codelab: --to (sqlite:///"), answer.stderr
    assert contents(target, AUTH) == before
