"""The audit trail of agents: what is in it, and that nobody changes it without the key unnoticed."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from codelab.agent.repository.audit import AUDIT
from codelab.agent.storage import describe
from codelab.cli import cli
from codelab.db import now
from codelab.db.upkeep import Batches
from codelab.storage.pruning import prune_chain
from tests.agent.providers.upstream import text_answer
from tests.agent.test_approvals import WRITE, ask, change, let_time_pass
from tests.agent.transcripts import call, calls_answer
from tests.support.auth import CLIENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running


EMPTIED = (
    "UPDATE agent_audit SET owner_id = NULL, actor_id = NULL, client_id = NULL, session_id = NULL, data = NULL, "
    "erased_at = (SELECT max(created_at) FROM agent_audit) WHERE seq = 2"
)


async def trail(running: Running) -> list[dict[str, Any]]:
    """Return the rows in order."""
    async with running.app.state.agent.database.read() as db:
        return [dict(row) for row in (await db.execute(AUDIT.rows.select().order_by(AUDIT.rows.c.seq))).mappings()]


async def faults(running: Running, key_file: Path) -> list[str]:
    """Verify the chain as the command does; say each fault in one line."""
    storage = describe(key_file)
    assert storage.chain is not None
    (check,) = (one for one in storage.checks if one.name == storage.chain.name)
    async with running.app.state.agent.database.engine.connect() as connection:
        found = await check.find(connection)
    return [f"{each.detail}: {' '.join(each.rows)}" for each in found if each.severity == "fault"]


async def work(running: Running, model: Upstream) -> tuple[Person, str]:
    """Let everything happen once that is audited."""
    ada = await running.person()
    session, (first, second, third) = await ask(ada, model, WRITE, *[WRITE | {"path": f"{n}.md"} for n in range(2)])
    given = await ada.decide(session, first["approval_id"], "approve", grant={"scope": "session"}, feedback="fine")
    await ada.decide(session, second["approval_id"], "reject", feedback="no")
    model.play(calls_answer(call("write_file", WRITE, id="d1")))
    model.play(text_answer("Well."))
    await ada.http.post(f"/api/v1/agents/{session}/switch", json={"target_agent": "debug"})
    await ada.answer(session, first["call_id"], result={})
    assert third["approval_id"]
    await let_time_pass(running)
    await ada.until(session, "turn.completed")
    assert (await ada.http.delete(f"/api/v1/grants/{given.json()['grant']['grant_id']}")).status_code == 200
    return ada, session


@pytest.fixture
async def served(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Running:
    """A server that talks to ``model``."""
    return await start(**with_model)


async def test_what_is_in_it(served: Running, model: Upstream, tmp_path: Path) -> None:
    """Decisions with who, from where and with what, ends, denials, switches, grants and their revocation."""
    ada, session = await work(served, model)
    rows = await trail(served)
    by_kind = {row["event_type"]: row for row in rows}

    assert [row["event_type"] for row in rows] == [
        "grant_made",
        "approval_approved",
        "approval_rejected",
        "agent_switched",
        "approval_expired",
        "call_denied",
        "grant_revoked",
    ]
    assert {(row["owner_id"], row["session_id"]) for row in rows} == {(ada.id, session)}
    approved, rejected = by_kind["approval_approved"], by_kind["approval_rejected"]
    assert (approved["actor_id"], approved["client_id"]) == (ada.id, CLIENT)
    assert (approved["data"]["arguments"], approved["data"]["feedback"]) == (WRITE, "fine")
    assert (rejected["data"]["decision"], rejected["data"]["agent"]) == ("reject", "coder")
    assert by_kind["approval_expired"]["actor_id"] is None
    assert by_kind["call_denied"]["data"]["reason"] == "The agent debug does not have the tool write_file."
    assert by_kind["grant_made"]["data"]["rule"]["path"] == WRITE["path"]
    assert await faults(served, tmp_path / "auth.key") == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE agent_audit SET event_type = 'approval_approved' WHERE seq = 3", "the content was changed"),
        ("DELETE FROM agent_audit WHERE seq = 4", "rows 4 to 4 are missing"),
        ("DELETE FROM agent_audit WHERE seq >= 6", "rows 6 to 7 are missing at the end"),
        (
            EMPTIED,
            "emptied without the key",
        ),
        (
            "UPDATE agent_audit SET seq = CASE seq WHEN 2 THEN 92 ELSE 93 END WHERE seq IN (2, 3)",
            "rows 2 to 3 are missing",
        ),
    ],
    ids=["changed", "removed", "cut", "emptied", "moved"],
)
async def test_a_change_without_the_key_is_found(
    served: Running, model: Upstream, tmp_path: Path, damage: str, expected: str
) -> None:
    """A row that was changed, removed, cut off, emptied or moved; the finding names it or its place."""
    await work(served, model)
    await change(served, damage)

    assert expected in " / ".join(await faults(served, tmp_path / "auth.key"))


async def test_a_person_is_erased_and_a_prefix_pruned(served: Running, model: Upstream, tmp_path: Path) -> None:
    """Both with the key: what is left can still be verified, and says nothing of the person."""
    ada, _ = await work(served, model)
    agent, storage = served.app.state.agent, describe(tmp_path / "auth.key")
    assert storage.erase_trail is not None
    erase = storage.erase_trail
    emptied = await agent.database.write(lambda tx: erase(tx.session, ada.id))
    rows = await trail(served)
    whole = await faults(served, tmp_path / "auth.key")
    batches = Batches(agent.database)
    removed = await prune_chain(
        agent.database, batches, agent.audit.chain, AUDIT, now() + timedelta(days=1), "audit trail"
    )

    assert (emptied, len(rows), whole) == (7, 8, [])
    assert {(row["owner_id"], row["data"] is None) for row in rows[:7]} == {(None, True)}
    assert (removed, await faults(served, tmp_path / "auth.key")) == (8, [])


async def test_the_commands(
    served: Running, model: Upstream, migrated: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``verify`` ends with 1 and the row where one was changed, ``export`` writes JSON lines of both modules."""
    await work(served, model)
    monkeypatch.setenv("AGENT_RUNTIME__DB_URL", migrated.agent)
    monkeypatch.setenv("AUTH_SERVICE__DB_URL", migrated.auth)
    monkeypatch.setenv("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", str(tmp_path / "auth.key"))

    async def codelab(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["audit", *arguments])
        return result.exit_code, result.stdout

    whole = await codelab("verify", "--json")
    code, printed = await codelab("export", "--module", "agent")
    to_file, _ = await codelab("export", str(tmp_path / "trail.jsonl"))
    again, _ = await codelab("export", str(tmp_path / "trail.jsonl"))
    newest = await codelab("tail", "-n", "3", "--module", "agent")
    both = await codelab("tail", "--json", "-n", "9999")
    nothing = await codelab("tail", "-n", "0")
    await change(served, "UPDATE agent_audit SET client_id = 'other' WHERE seq = 2")
    changed = await codelab("verify")
    (row,) = [row["id"] for row in await trail(served) if row["seq"] == 2]

    assert whole[0] == 0
    assert [(m["module"], m["whole"]) for m in json.loads(whole[1])["modules"]] == [("auth", True), ("agent", True)]
    lines = [json.loads(line) for line in printed.splitlines()]
    assert (code, [line["seq"] for line in lines]) == (0, list(range(1, 8)))
    assert lines[1]["data"]["arguments"] == WRITE
    assert (newest[0], nothing) == (0, (0, ""))
    assert [line.split()[2:4] for line in newest[1].splitlines()] == [
        ["agent", row["event_type"]] for row in lines[-3:]
    ]
    told = [json.loads(line) for line in both[1].splitlines()]
    assert told == lines
    assert (to_file, again) == (0, 2)
    assert (tmp_path / "trail.jsonl").read_text("utf-8").count("\n") >= 7
    assert changed[0] == 1
    assert "agent: 7 rows, NOT WHOLE" in changed[1]
    assert row in changed[1]
