"""One person's data: exported alone, erased for good; everybody else's stays."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codelab.auth.storage import describe
from codelab.installation import MODULES
from tests.storage.commands import digests, document, environ, refused
from tests.storage.hostile import ROWS, contents
from tests.support.databases import DatabaseUrls
from tests.support.forking import fork_codelab
from tests.support.process import clean_environ
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import Template

METADATA = {name: storage.schema.metadata for name, storage in MODULES.items()}
#: Stands in every text of Ada's that has room for it.
SECRET = "the-secret-of-ada"


@pytest.fixture
def people(
    hostile: DatabaseUrls,
    sqlite_template: Template,
    make: Callable[[str], str],
    dialect: str,
    monkeypatch: pytest.MonkeyPatch,
) -> DatabaseUrls:
    """Ada owns every second session, Bob the others; the ids of two of their sessions are the same."""
    monkeypatch.setenv("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", str(sqlite_template.key_file))
    with closing(sqlite3.connect(hostile.auth.removeprefix("sqlite:///"))) as auth, auth:
        (ada,), (bob,) = auth.execute("SELECT id FROM users ORDER BY rowid LIMIT 2").fetchall()
        for number, name in ((1, "ada"), (2, "bob")):
            auth.execute("UPDATE users SET username = ? WHERE rowid = ?", (name, number))
        auth.execute("UPDATE refresh_tokens SET user_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        auth.execute("UPDATE audit_logs SET user_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        auth.execute("UPDATE auth_kept_answers SET owner_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        told = "UPDATE auth_kept_answers SET answer = ? WHERE db_id = (SELECT max(db_id) FROM auth_kept_answers"
        auth.execute(f"{told} WHERE owner_id = ?)", (json.dumps({"id": ada}, separators=(",", ":")), bob))
        auth.execute("UPDATE audit_logs SET erased_at = NULL")
        auth.execute("DELETE FROM auth_audit_head WHERE id <> 1")
        auth.execute("UPDATE audit_logs SET user_agent = ? WHERE user_id = ?", (SECRET, ada))
    with closing(sqlite3.connect(hostile.agent.removeprefix("sqlite:///"))) as agent, agent:
        agent.execute("DELETE FROM session_counters")
        agent.execute("INSERT INTO session_counters (owner_id, live_sessions) VALUES (?, 1), (?, 1)", (ada, bob))
        agent.execute("UPDATE sessions SET owner_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        agent.execute("UPDATE kept_answers SET owner_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        agent.execute("UPDATE grants SET owner_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        agent.execute("UPDATE agent_audit SET owner_id = CASE WHEN rowid % 2 THEN ? ELSE ? END", (ada, bob))
        agent.execute("UPDATE agent_audit SET erased_at = NULL, session_id = 'told of'")
        agent.execute("DELETE FROM agent_audit_head WHERE id <> 1")
        agent.execute("UPDATE sessions SET deleted_at = NULL")
        for name, which, owner in (("only-ada", "min", ada), ("shared", "max", ada), ("shared", "max", bob)):
            key = f"(SELECT {which}(db_id) FROM sessions WHERE owner_id = ?)"  # noqa: S608 - our own
            agent.execute(f"UPDATE sessions SET id = ? WHERE db_id = {key}", (name, owner))  # noqa: S608 - our own
        theirs = "(SELECT db_id FROM sessions WHERE owner_id = ?)"
        secret = f"UPDATE messages SET content = ? WHERE session_db_id IN {theirs}"  # noqa: S608 - our own
        agent.execute(secret, (SECRET, ada))
    if dialect == "sqlite":
        return hostile
    copied = DatabaseUrls(make(dialect), make(dialect))
    document("copy", "--from", hostile.agent, "--to", copied.agent)
    document("copy", "--from", hostile.auth, "--to", copied.auth)
    return copied


def export(databases: DatabaseUrls, folder: Path, *arguments: str) -> tuple[str, dict[str, dict[str, int]]]:
    """Export a part, and return the file and its rows by module and table, without the empty ones."""
    file = str(folder / f"part{len(list(folder.iterdir()))}.tar.zst")
    found = digests(document("export", file, *arguments, databases=databases))
    return file, {
        module: {table: rows for table, (rows, _) in tables.items() if rows} for module, tables in found.items()
    }


def test_one_persons_data(people: DatabaseUrls, make: Callable[[str], str], dialect: str, tmp_path: Path) -> None:
    """Ada's rows of every table and what they refer to, nothing of Bob's; the file is imported like any other."""
    file, rows = export(people, tmp_path, "--user", "ada")
    half = (ROWS + 1) // 2
    assert rows["auth"]["users"] == 1
    assert rows["auth"]["refresh_tokens"] == half
    assert rows["auth"]["oauth_clients"] >= half
    assert rows["agent"] == {
        name: 1 if name == "session_counters" else half
        for name in sorted(METADATA["agent"].tables)
        if "audit" not in name
    }

    target = make("postgresql" if dialect == "sqlite" else "sqlite")
    document("import", file, databases=DatabaseUrls(target, target))
    whole = contents(people.agent, METADATA["agent"])
    part = contents(target, METADATA["agent"])
    assert all(set(part[table]) < set(whole[table]) for table in part)
    assert all(SECRET in row for row in part["messages"])


def test_one_session(people: DatabaseUrls, tmp_path: Path) -> None:
    """One session with all that belongs to it; when two people use its id, ``--user`` says whose."""
    _, rows = export(people, tmp_path, "--session", "only-ada")
    assert list(rows) == ["agent"]
    of_people = {"session_counters", "kept_answers"}
    tables = [name for name in METADATA["agent"].tables if "audit" not in name and name not in of_people]
    assert rows["agent"] == dict.fromkeys(sorted(tables), 1)

    nowhere = str(tmp_path / "none.tar.zst")
    line = refused("export", nowhere, "--session", "shared", databases=people, code=1)
    assert line == "codelab: several people have a session 'shared'; say whose with --user"
    file, rows = export(people, tmp_path, "--session", "shared", "--user", "bob")
    assert rows["agent"]["sessions"] == 1
    selection = document("import", file, "--module", "agent", "--replace", databases=people)["selection"]
    assert selection == {"user": "bob", "session": "shared"}

    for arguments, part in (
        (("--user", "nobody"), "nobody has the user name 'nobody'"),
        (("--session", "nothing"), "there is no session 'nothing'"),
        (("--session", "only-ada", "--user", "bob"), "there is no session 'only-ada'"),
        (("--user", "a'; DROP TABLE users; --"), "nobody has the user name"),
        (("--user", "\udcff"), "--user: must not contain U+DCFF"),
        (("--session", "' OR '1'='1"), "there is no session"),
    ):
        assert part in refused("export", nowhere, *arguments, databases=people, code=1)
        assert not Path(nowhere).exists()


def test_a_person_is_erased(people: DatabaseUrls, dialect: str) -> None:
    """No row of theirs is left, and no byte in the files of SQLite; other people's rows are all as they were."""
    before = {name: contents(getattr(people, name), METADATA[name]) for name in METADATA}

    answer = document("erase", "--user", "ada", "--yes", databases=people)

    after = {name: contents(getattr(people, name), METADATA[name]) for name in METADATA}
    ada = answer["user_id"]
    half = (ROWS + 1) // 2
    assert answer["modules"]["agent"]["rows"]["messages"] == half
    removed = {table: count for table, count in answer["modules"]["auth"]["rows"].items() if count}
    assert removed == {"users": 1, "refresh_tokens": half, "auth_kept_answers": half}
    assert [answer["modules"][name]["emptied"] for name in ("auth", "agent")] == [half, half]
    for name, tables in before.items():
        for table, rows in tables.items():
            if "audit" not in table:
                assert set(after[name][table]) <= set(rows)
                gone = set(rows) - set(after[name][table])
                about = 1 if table == "auth_kept_answers" else 0  # what Bob was answered about Ada
                assert len(gone) == answer["modules"][name]["rows"].get(table, 0) + about, table
                assert not any(ada in row or SECRET in row for row in after[name][table])
    trail = after["auth"]["audit_logs"]
    assert len(trail) == len(before["auth"]["audit_logs"]) + 1
    assert [row for row in trail if ada in row] == [row for row in trail if "'user_erased'" in row]
    assert not any(SECRET in row for row in trail)
    told = after["agent"]["agent_audit"]
    assert len(told) == len(before["agent"]["agent_audit"]) + 1
    assert [row for row in told if ada in row] == [row for row in told if "'person_erased'" in row]
    assert sum("'told of'" in row for row in told) == ROWS - half
    if dialect == "sqlite":
        for url in (people.agent, people.auth):
            path = Path(url.removeprefix("sqlite:///"))
            for file in path.parent.glob(f"{path.name}*"):
                assert SECRET.encode() not in file.read_bytes(), file
        assert answer["modules"]["agent"]["overwritten"] is True

    assert "nobody has the user name 'ada'" in refused("erase", "--user", "ada", "--yes", databases=people, code=1)


def test_nobody_is_erased_by_accident(people: DatabaseUrls) -> None:
    """Without a terminal to ask on, ``--yes`` is needed, and nothing happens."""
    before = {name: contents(getattr(people, name), METADATA[name]) for name in METADATA}

    assert "say --yes" in refused("erase", "--user", "ada", databases=people, code=2)

    assert {name: contents(getattr(people, name), METADATA[name]) for name in METADATA} == before


def test_the_key_of_the_trail_is_needed(people: DatabaseUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key file the audit trail could not be kept whole: nothing is removed anywhere."""
    before = {name: contents(getattr(people, name), METADATA[name]) for name in METADATA}
    monkeypatch.setenv("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", "nowhere.key")

    line = refused("erase", "--user", "ada", "--yes", databases=people, code=2)

    assert "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE: nowhere.key holds no key" in line
    assert {name: contents(getattr(people, name), METADATA[name]) for name in METADATA} == before


async def test_beside_a_server(databases: DatabaseUrls, tmp_path: Path) -> None:
    """A person is erased while a server runs: their token ends, everybody else's sessions go on."""
    settings = make_settings(databases, tmp_path)
    async with serving(settings) as server:
        ada, bob = await server.person("ada"), await server.person("bob")
        sessions = {person.id: await person.session() for person in (ada, bob)}
        for person in (ada, bob):
            await person.say(sessions[person.id], SECRET)
            await person.until(sessions[person.id], "turn.completed", "turn.failed")

        key_file = str(tmp_path / "auth.key")
        variables = clean_environ(tmp_path, **environ(databases), AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE=key_file)
        arguments = ("db", "erase", "--user", "ada", "--yes", "--json")
        answer = await asyncio.to_thread(fork_codelab, *arguments, folder=tmp_path, environ=variables)

        assert answer.returncode == 0, answer.stderr
        rows: dict[str, Any] = json.loads(answer.stdout)["modules"]["agent"]["rows"]
        assert (rows["sessions"], rows["turns"]) == (1, 1)
        assert (await ada.http.get("/api/v1/sessions")).status_code == 401
        assert (await bob.history(sessions[bob.id]))[0]["content"] == SECRET
        await bob.say(sessions[bob.id], "and on")
        assert len(await bob.history(sessions[bob.id])) >= 3

        async with server.app.state.auth.database.engine.connect() as connection:
            for check in describe(settings.auth).checks:
                assert [found for found in await check.find(connection) if found.severity == "fault"] == []
