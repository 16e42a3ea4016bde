"""``codelab db check`` on databases that a server filled and somebody damaged."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from codelab.agent.storage import STORAGE as AGENT
from codelab.auth.storage import STORAGE as AUTH
from codelab.db import parse_url
from codelab.db.engine import create_engine
from codelab.errors import StartError
from codelab.storage.check import Checked, check, mend
from tests.support.forking import fork_codelab, forked_server
from tests.support.process import clean_environ
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codelab.storage import ModuleStorage
    from tests.support.databases import DatabaseUrls


async def damage(storage: ModuleStorage, url: str, *statements: str) -> None:
    """Change a database behind the program's back, without its foreign keys."""
    engine = create_engine(parse_url(url, storage.schema.variable), "damage", migrating=True)
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def examine(storage: ModuleStorage, url: str) -> Checked:
    """Check one module."""
    return await check(parse_url(url, storage.schema.variable), storage)


def faults(checked: Checked) -> list[tuple[str, str]]:
    """What was found, without what a reader needs not compare."""
    return [(finding.check, finding.detail) for finding in checked.findings if finding.severity == "fault"]


async def test_what_a_server_leaves_is_whole(filled: DatabaseUrls) -> None:
    """After real work there is no fault in either module."""
    assert faults(await examine(AGENT, filled.agent)) == []
    assert faults(await examine(AUTH, filled.auth)) == []


async def test_it_is_right_beside_a_running_server(migrated: DatabaseUrls, tmp_path: Path) -> None:
    """One snapshot: turns that run while it reads are no faults, and a repair is refused."""
    async with serving(make_settings(migrated, tmp_path)) as server:
        ada = await server.person()
        session = await ada.session(agent="ask")
        await ada.say(session, "count to 300")
        for _ in range(10):
            assert faults(await examine(AGENT, migrated.agent)) == []
        with pytest.raises(StartError, match="a codelab server uses this database; stop it before a repair"):
            await mend(parse_url(migrated.agent, "AGENT_RUNTIME__DB_URL"), AGENT)
        await ada.until(session, "turn.completed")


#: What was done, which check finds it and with which words, and whether --repair mends it.
DAMAGES: Sequence[tuple[str, str, str, bool]] = [
    ("DELETE FROM session_events WHERE seq = 3", "events", "gaps in the event log", False),
    ("UPDATE folded_ranges SET deltas = deltas - 1", "events", "lack more events than were folded", False),
    ("DELETE FROM folded_ranges", "events", "gaps in the event log", False),
    ("UPDATE sessions SET last_seq = last_seq + 5", "events", "their newest events are lost", False),
    ("UPDATE sessions SET last_seq = 1 WHERE last_seq > 1", "last_seq", "last_seq below", True),
    ("UPDATE sessions SET message_count = message_count + 1", "message_count", "another message_count", True),
    ("UPDATE session_counters SET live_sessions = 99", "session_counters", "number of sessions", True),
    ("DELETE FROM session_counters", "session_counters", "number of sessions", True),
    ("DELETE FROM messages WHERE role = 'tool'", "tool_calls", "without a result message", False),
    ("DELETE FROM agent_contexts", "orphans", "have no agent", False),
    ("DELETE FROM message_images WHERE n = 1", "images", "tell of other images", False),
    ("UPDATE messages SET images = NULL", "images", "tell of other images", False),
    ("DELETE FROM messages WHERE role = 'user'", "orphans", "have lost the message that began them", False),
    ("UPDATE messages SET status = 'streaming' WHERE role = 'assistant'", "messages", "still streaming", False),
    ("UPDATE tool_calls SET state = 'requested'", "tool_calls", "of ended turns have no result", False),
    ("DELETE FROM tool_calls WHERE state = 'awaiting_approval'", "approvals", "does not wait for one", True),
    (
        "UPDATE pending_approvals SET status = 'rejected' WHERE status = 'pending'",
        "tool_calls",
        "wait for an approval that is not there",
        False,
    ),
    ("DELETE FROM agent_contexts", "orphans", "belong to a row of agent_contexts that is not there", True),
    ("DELETE FROM turns", "orphans", "belong to a row of turns that is not there", True),
]


@pytest.mark.parametrize(("statement", "name", "words", "repairable"), DAMAGES)
async def test_damage_to_agent_is_found(
    filled: DatabaseUrls, statement: str, name: str, words: str, repairable: bool
) -> None:
    """Each kind of damage is found by its check, with rows; what is safe is mended, in one transaction."""
    await damage(AGENT, filled.agent, statement)
    before = await examine(AGENT, filled.agent)
    (found, *_) = [finding for finding in before.findings if finding.check == name and words in finding.detail]

    assert found.severity == "fault"
    assert found.rows
    assert found.repairable == repairable
    if not repairable:
        return
    did = await mend(parse_url(filled.agent, "AGENT_RUNTIME__DB_URL"), AGENT)
    assert did
    after = await examine(AGENT, filled.agent)
    assert [finding for finding in after.findings if finding.check == name and words in finding.detail] == []


FORKED = (
    "UPDATE refresh_tokens SET parent_jti_hash = 'x', created_at = "
    "CASE WHEN parent_jti_hash IS NULL THEN '2026-01-01 00:00:00.000000' ELSE created_at END"
)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE refresh_tokens SET revoked = false", "follow one that is not used up"),
        ("UPDATE refresh_tokens SET revoked_at = NULL", "revoked at no time"),
        (FORKED, "used more than once"),
        ("UPDATE refresh_tokens SET family_id = id", "or another family's"),
        (
            "UPDATE refresh_tokens SET client_id = 'other' WHERE parent_jti_hash IS NULL",
            "families of refresh tokens have several owners",
        ),
    ],
)
async def test_damage_to_auth_is_found(filled: DatabaseUrls, statement: str, words: str) -> None:
    """A family of refresh tokens has one owner, is alive at its ends only, and forks only within the grace."""
    await damage(AUTH, filled.auth, statement)

    assert [detail for _, detail in faults(await examine(AUTH, filled.auth)) if words in detail]


async def test_orphans_are_removed_and_nothing_else(filled: DatabaseUrls) -> None:
    """Only rows that nothing leads to go; the children of what is left stay."""
    await damage(AGENT, filled.agent, "DELETE FROM sessions WHERE db_id = (SELECT min(db_id) FROM sessions)")
    assert not (await examine(AGENT, filled.agent)).whole
    url = parse_url(filled.agent, "AGENT_RUNTIME__DB_URL")
    did = await mend(url, AGENT)

    # Which of them by itself and which with its parent depends on the order, on PostgreSQL.
    assert any("whose sessions is not there" in sentence for sentence in did)
    assert faults(await examine(AGENT, filled.agent)) == []


async def test_the_schema_is_compared(filled: DatabaseUrls) -> None:
    """A table that somebody changed is a fault, and so is one behind the newest revision."""
    await damage(AGENT, filled.agent, "ALTER TABLE sessions ADD COLUMN extra TEXT")
    assert [check for check, _ in faults(await examine(AGENT, filled.agent))] == ["schema"]
    await damage(AUTH, filled.auth, "UPDATE auth_alembic_version SET version_num = 'newer'")
    ((_, detail),) = faults(await examine(AUTH, filled.auth))
    assert "newer is unknown to this program" in detail


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_a_damaged_page_is_a_fault(filled: DatabaseUrls, tmp_path: Path) -> None:
    """Bytes that were changed in the file are found by SQLite's own check; there is no traceback."""
    path = tmp_path / "agent.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'session_events'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    checked = await examine(AGENT, filled.agent)

    assert "integrity" in {name for name, _ in faults(checked)}


def test_the_command(databases: DatabaseUrls, tmp_path: Path) -> None:
    """Exit code 0 and one word for whole; 1 and a list for faults; --repair mends and says what it did."""
    environ = clean_environ(tmp_path, AGENT_RUNTIME__DB_URL=databases.agent, AUTH_SERVICE__DB_URL=databases.auth)

    def run(*arguments: str) -> tuple[int, Any]:
        result = fork_codelab("db", "check", *arguments, folder=tmp_path, environ=environ)
        assert "Traceback" not in result.stderr
        return result.returncode, json.loads(result.stdout) if "--json" in arguments else result.stdout

    with forked_server(tmp_path, databases) as server:
        assert server.stop() == 0
    code, said = run()
    assert code == 0, said
    assert "agent: whole" in said
    assert "auth: whole" in said
    import asyncio

    counted = "INSERT INTO session_counters (owner_id, live_sessions) VALUES ('nobody', 3)"
    asyncio.run(damage(AGENT, databases.agent, counted))
    code, document = run("--json")
    assert code == 1
    (agent,) = [module for module in document["modules"] if module["module"] == "agent"]
    assert [f["check"] for f in agent["findings"] if f["severity"] == "fault"] == ["session_counters"]
    code, said = run("--repair", "--module", "agent")
    assert code == 0, said
    assert "mended: counted the sessions of 1 people again" in said
