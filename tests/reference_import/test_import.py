"""The samples of the reference in both of our databases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from codelab.agent import gate
from codelab.auth.storage import SCHEMA, describe
from codelab.db import Database, parse_url
from codelab.errors import StartError
from tests.agent.transcripts import END, last, types
from tests.reference_import.reference import (
    PASSWORDS,
    Reference,
    Talk,
    change,
    dump,
    fill_postgres,
    import_reference,
)
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.reference_import import Outcome
    from codelab.settings import Settings
    from tests.support.databases import DatabaseUrls, PostgresServer
    from tests.support.server import Event, Person

CLIENT = "codelab-flutter-app"


def counts(outcome: Outcome) -> dict[str, tuple[int, int, int, int]]:
    """What became of each kind: read, imported, already there, skipped."""
    both = {**outcome.auth.counts, **outcome.agent.counts}
    return {kind: (c.read, c.imported, c.already_there, c.skipped) for kind, c in both.items()}


async def log_in(http: httpx2.AsyncClient, name: str, password: str) -> httpx2.Response:
    """Ask for tokens as the reference's IDE does."""
    form = {"grant_type": "password", "client_id": CLIENT, "username": name, "password": password}
    return await http.post("/oauth/token", data=form)


async def stored_hash(running: Any, name: str) -> str:
    """Return the stored hash of somebody's password."""
    from codelab.auth.repository.users import find_user

    async with running.app.state.auth.database.read() as db:
        user = await find_user(db, name)
    assert user is not None
    return str(user.password_hash)


def told(reference: Reference, session: str) -> list[tuple[str, str]]:
    """Role and text of each message, as the reference has them."""
    query = "SELECT role, content FROM messages WHERE session_db_id = ? ORDER BY timestamp, rowid"
    return [(row["role"], row["content"] or "") for row in reference.rows(query, session)]


async def all_events(person: Person, session: str, newest: int) -> list[Event]:
    """Follow a session from its beginning to its newest event."""
    return await person.events(session, lambda event: event.seq == newest)


async def test_everything_is_counted(settings: Settings, sample: Reference) -> None:
    """Every row is read and imported, but for the tokens that only the reference's key could prove."""
    outcome = await import_reference(settings, sample.urls)

    assert counts(outcome) == {
        "users": (2, 2, 0, 0),
        "clients": (2, 2, 0, 0),
        "refresh_tokens": (2, 0, 0, 2),
        "audit_logs": (3, 3, 0, 0),
        "sessions": (5, 5, 0, 0),
        "messages": (22, 22, 0, 0),
        "agent_contexts": (4, 4, 0, 0),
        "agent_switches": (6, 6, 0, 0),
        "pending_approvals": (3, 3, 0, 0),
    }
    assert outcome.owner == "alice"
    assert outcome.agent.repairs == []
    assert [note.what for note in outcome.auth.skips] == [
        "only the reference's key can prove them: name its folder with --keys"
    ]


async def test_old_passwords_work_and_are_hashed_anew(settings: Settings, sample: Reference) -> None:
    """Both people log in with the passwords that they had; the next hash is argon2id and works as well."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        for name, password in PASSWORDS.items():
            assert (await stored_hash(running, name)).startswith("$2b$12$")
            assert (await log_in(running.http, name, password + "x")).status_code == 401
            assert (await stored_hash(running, name)).startswith("$2b$12$")
            first = await log_in(running.http, name, password)
            assert first.status_code == 200, first.text
            assert first.json()["scope"] == "api:read api:write approvals:decide"
            assert (await stored_hash(running, name)).startswith("$argon2id$")
            assert (await log_in(running.http, name, password)).status_code == 200
            assert (await log_in(running.http, name, password + "x")).status_code == 401


async def test_histories_have_the_same_text_in_the_same_order(settings: Settings, sample: Reference) -> None:
    """Each session is there under its id, and history, events and agent tell the same story; others see nothing."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice, admin = await running.person("alice"), await running.person("admin")
        ids = [row["id"] for row in sample.rows("SELECT id FROM sessions")]
        listed = (await alice.http.get("/api/v1/sessions")).json()
        assert {each["id"] for each in listed["sessions"]} == set(ids)
        assert listed["total"] == 5
        for session in ids:
            expected = told(sample, session)
            history = await alice.history(session)
            info = (await alice.http.get(f"/api/v1/sessions/{session}")).json()

            assert [(m["role"], m["content"]) for m in history] == expected
            assert {m["status"] for m in history} <= {"completed"}
            assert info["message_count"] == len(expected)
            assert (await admin.http.get(f"/api/v1/sessions/{session}")).status_code == 404
            if not expected:
                assert info["last_seq"] == 0
                continue
            events = await all_events(alice, session, info["last_seq"])
            assert [event.seq for event in events] == list(range(1, info["last_seq"] + 1))
            shown = [e.data["content"] for e in events if e.type in {"message.created", "message.completed"}]
            assert shown == [text for role, text in expected if role != "tool"]


async def test_times_agents_and_switches_are_kept(settings: Settings, sample: Reference) -> None:
    """Naive times are UTC; who handed over to whom, when and why is as it was."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        answer = await alice.http.get("/api/v1/agents/sample-switch/current", params={"include_history": "true"})
        context = answer.json()["context"]
        history = await alice.history("sample-switch")
        listed = (await alice.http.get("/api/v1/sessions")).json()["sessions"]

    assert (context["id"], context["current_agent"], context["switch_count"]) == (
        "6e4c78cb-5892-4965-acd3-7425eb45f393",
        "debug",
        3,
    )
    switches = [(s["from_agent"], s["to_agent"], s["reason"], s["switched_at"]) for s in context["switch_history"]]
    assert switches == [
        ("orchestrator", "architect", "fake classifier chose architect", "2026-11-22T19:17:56.674457Z"),
        ("architect", "coder", "needs code", "2026-11-22T19:17:56.699101Z"),
        ("coder", "debug", "manual", "2026-11-22T19:17:56.734632Z"),
    ]
    assert history[0]["created_at"] == "2026-11-22T19:17:56.623195Z"
    assert listed[0]["id"] == "sample-empty"
    assert listed[0]["last_activity"] == "2026-11-22T19:17:56.752289Z"


async def test_the_next_turn_runs(settings: Settings, sample: Reference) -> None:
    """A session goes on here where it ended there, with the next event and the offline model."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        before = (await alice.http.get("/api/v1/sessions/sample-tools")).json()
        accepted = await alice.say("sample-tools", "count to 2")
        events = await alice.until("sample-tools", *END, after=before["last_seq"])
        history = await alice.history("sample-tools")

    assert accepted["seq"] == before["last_seq"] + 1
    assert events[-1].type == "turn.completed"
    assert [(m["role"], m["content"]) for m in history[:12]] == told(sample, "sample-tools")
    assert [m["role"] for m in history[12:]] == ["user", "assistant"]


@pytest.mark.parametrize("decision", ["approve", "edit", "reject"])
async def test_the_pending_approval_is_decided_here(settings: Settings, sample: Reference, decision: str) -> None:
    """What waited for a person there waits here: it is decided once, the client answers, the turn completes."""
    await import_reference(settings, sample.urls)
    arguments: dict[str, Any] = {"path": "lib/a.dart", "content": "class A {}", "create_dirs": True}
    session = "sample-pending"
    async with serving(settings) as running:
        alice = await running.person("alice")
        info = (await alice.http.get(f"/api/v1/sessions/{session}")).json()
        assert info["active_turn"]["state"] == "waiting"
        url = f"/api/v1/sessions/{session}/pending-approvals"
        (pending,) = (await alice.http.get(url)).json()["pending_approvals"]
        assert (pending["call_id"], pending["tool_name"], pending["arguments"]) == (
            "call_pending_1",
            "write_file",
            arguments,
        )
        assert pending["details"]["digest"] == gate.digest(session, "coder", "write_file", arguments)
        assert pending["reason"] == "File modification requires user approval"
        early = await alice.answer(session, "call_pending_1", result={})
        assert early.json()["code"] == "approval_pending"
        extra = {"modified_arguments": arguments | {"content": "class B {}"}} if decision == "edit" else {}
        decided = await alice.decide(session, pending["approval_id"], decision, **extra)
        assert decided.status_code == 200, decided.text
        again = await alice.decide(session, pending["approval_id"], "approve")
        assert again.json()["code"] == "approval_decided"
        if decision != "reject":
            events = await alice.until(session, "tool.requested", after=info["last_seq"])
            assert events[-1].data["arguments"] == arguments | extra.get("modified_arguments", {})
            taken = await alice.answer(session, "call_pending_1", result={"success": True})
            assert taken.json()["status"] == "completed"
        events = await alice.until(session, *END, after=info["last_seq"])
        history = await alice.history(session)
        assert events[-1].type == "turn.completed"
        assert [m["role"] for m in history] == ["user", "assistant", "tool", "assistant"]
        assert (await alice.http.get(f"/api/v1/sessions/{session}")).json()["active_turn"] is None


async def test_decided_approvals_are_history(settings: Settings, sample: Reference) -> None:
    """What was approved or rejected there is told as such, and cannot be decided again."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        info = (await alice.http.get("/api/v1/sessions/sample-tools")).json()
        events = await alice.events("sample-tools", lambda event: event.seq == info["last_seq"])
        resolved = [e.data for e in events if e.type == "approval.resolved"]
        again = await alice.decide("sample-tools", resolved[0]["approval_id"], "approve")
        ends = {e.data["call_id"]: (e.data["status"], e.data["error"]) for e in events if e.type == "tool.completed"}

    assert [(e["call_id"], e["status"], e["decision"], e["feedback"]) for e in resolved] == [
        ("call_write_1", "approved", "approve", None),
        ("call_exec_1", "rejected", "reject", "Tool execution failed: User rejected: too risky"),
    ]
    assert (again.status_code, again.json()["code"]) == (409, "approval_decided")
    assert ends == {
        "call_read_1": ("completed", None),
        "call_write_1": ("completed", None),
        "call_exec_1": ("rejected", "User rejected: too risky"),
    }


async def test_events_are_those_of_a_turn_that_ran_here(settings: Settings, sample: Reference) -> None:
    """An imported turn with an approved write has the events, in the order and with the members, of a live one."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        live = await alice.session(agent="coder")
        await alice.say(live, "create hello.py that prints hi")
        asked = last(await alice.until(live, "turn.waiting"), "approval.requested")
        await alice.decide(live, asked["approval_id"], "approve")
        await alice.answer(live, asked["call_id"], result={"success": True})
        ours = await alice.until(live, *END)
        info = (await alice.http.get("/api/v1/sessions/sample-tools")).json()
        all_theirs = await alice.events("sample-tools", lambda event: event.seq == info["last_seq"])

    starts = [index for index, event in enumerate(all_theirs) if event.type == "message.created"]
    theirs = all_theirs[starts[1] : starts[2]]
    # The reference stored no text beside a call, and the offline model says what it is going to do.
    first = types(ours).index("message.delta")
    expected = types(ours)[:first] + types(ours)[first + 1 :]
    assert types(theirs) == expected
    members = {event.type: {name: type(value) for name, value in event.data.items()} for event in ours}
    for event in theirs:
        assert set(event.data) == set(members[event.type]), event.type


async def test_a_second_run_finds_everything(settings: Settings, sample: Reference) -> None:
    """The second run leaves both databases as they are, also after things went on here, and under another owner."""
    await import_reference(settings, sample.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        await alice.say("sample-tools", "count to 1")
        await alice.until("sample-tools", *END, after="latest")
        assert (await alice.http.delete("/api/v1/sessions/sample-switch")).status_code == 204
    before = await dump(settings)
    for owner in ("alice", "admin"):
        outcome = await import_reference(settings, sample.urls, owner=owner)

        assert {kind: c[1] for kind, c in counts(outcome).items()} == dict.fromkeys(counts(outcome), 0)
        assert counts(outcome)["messages"] == (22, 0, 22, 0)
        assert await dump(settings) == before


async def test_what_is_new_there_comes_with_the_next_run(settings: Settings, sample: Reference) -> None:
    """A session that the reference made after the first run is taken over by the second."""
    await import_reference(settings, sample.urls)
    talk = Talk(sample, "later")
    talk.user("hello")
    talk.answer("hi")
    outcome = await import_reference(settings, sample.urls)

    assert counts(outcome)["sessions"] == (6, 1, 5, 0)
    assert counts(outcome)["messages"] == (24, 2, 22, 0)


async def test_a_dry_run_changes_nothing(settings: Settings, sample: Reference) -> None:
    """On empty databases it makes no table, on full ones it changes no row; the report is that of the real run."""
    trial = await import_reference(settings, sample.urls, dry_run=True)
    assert await dump(settings) == {}
    real = await import_reference(settings, sample.urls)
    assert trial == real
    talk = Talk(sample, "later")
    talk.user("hello")
    before = await dump(settings)
    trial = await import_reference(settings, sample.urls, dry_run=True)

    assert await dump(settings) == before
    assert counts(trial)["sessions"] == (6, 1, 5, 0)


async def test_a_target_in_use_keeps_what_it_has(migrated: DatabaseUrls, tmp_path: Path, sample: Reference) -> None:
    """Names that are taken by others are conflicts that are listed; the seeded client is the reference's own."""
    settings = make_settings(migrated, tmp_path)
    async with serving(settings) as running:
        ada = await running.person("ada")
        await ada.session(session_id="sample-tools", title="mine")
    outcome = await import_reference(settings, sample.urls, owner="ada")

    assert counts(outcome)["users"] == (2, 1, 0, 1)
    assert counts(outcome)["clients"] == (2, 1, 1, 0)
    assert counts(outcome)["sessions"] == (5, 4, 0, 1)
    assert counts(outcome)["messages"] == (22, 10, 0, 12)
    assert [(note.where, note.what) for note in outcome.agent.skips] == [
        ("sample-tools", "its owner has another session of that id")
    ]
    assert [note.where for note in outcome.auth.skips if note.kind == "users"] == ["admin"]
    async with serving(settings) as running:
        ada = await running.person("ada")
        assert (await ada.http.get("/api/v1/sessions/sample-tools")).json()["title"] == "mine"
        assert len(await ada.history("sample-switch")) == 4
        old = await log_in(running.http, "admin", PASSWORDS["admin"])
        assert old.status_code == 401
        assert (await log_in(running.http, "alice", PASSWORDS["alice"])).status_code == 200


async def test_owners(settings: Settings, sample: Reference) -> None:
    """The only active user is the owner; of several one must be named, or nothing at all is imported."""
    for owner, problem in ((None, "say who owns"), ("nobody", "there is no user 'nobody'")):
        with pytest.raises(StartError, match=problem) as refused:
            await import_reference(settings, sample.urls, owner=owner)
        assert "admin, alice" in str(refused.value)
    assert all(rows == [] for name, rows in (await dump(settings)).items() if "version" not in name)
    change(sample.auth, "UPDATE users SET is_active = 0 WHERE username = 'admin'")
    outcome = await import_reference(settings, sample.urls, owner=None)

    assert outcome.owner == "alice"


async def test_deleted_sessions_stay_deleted(settings: Settings, reference: Reference) -> None:
    """A session that was deleted there is kept and cannot be seen; nothing waits in it."""
    gone = Talk(reference, "gone", is_active=0, deleted_at="2026-11-02 00:00:00.000000")
    gone.user("write it")
    gone.approval("call_1", {"path": "a", "content": "b"})
    gone.call("call_1", "write_file", '{"path": "a", "content": "b"}')
    Talk(reference, "here").user("hello")
    await import_reference(settings, reference.urls)
    async with serving(settings) as running:
        alice = await running.person("alice")
        listed = (await alice.http.get("/api/v1/sessions")).json()
        assert ([each["id"] for each in listed["sessions"]], listed["total"]) == (["here"], 1)
        assert (await alice.http.get("/api/v1/sessions/gone")).status_code == 404
    rows = await dump(settings)
    assert len(rows["agent.sessions"]) == 2
    assert all("waiting" not in repr(turn) for turn in rows["agent.turns"])


async def test_confidential_clients_and_admins_scope(settings: Settings, sample: Reference) -> None:
    """A client whose secret is published is there, disabled, without ``api:admin``; its old secret opens nothing."""
    outcome = await import_reference(settings, sample.urls)
    assert {note.where for note in outcome.auth.repairs} == {"codelab-internal"}
    async with serving(settings) as running:
        form = {"grant_type": "password", "username": "alice", "password": PASSWORDS["alice"]}
        for secret in ("internal-secret-123", ""):
            basic = httpx2.BasicAuth("codelab-internal", secret)
            assert (await running.http.post("/oauth/token", data=form, auth=basic)).status_code == 401
    (client,) = [row for row in (await dump(settings))["auth.oauth_clients"] if "codelab-internal" in row]
    assert "api:read api:write" in client
    assert not any("api:admin" in str(value) or "$2b$" in str(value) for value in client)


async def test_audit_logs_are_marked(settings: Settings, sample: Reference) -> None:
    """The audit trail of the reference is kept with its ids and times, and says where it is from."""
    await import_reference(settings, sample.urls)
    rows = (await dump(settings))["auth.audit_logs"]

    assert {row[0] for row in rows} == {row["id"] for row in sample.rows("SELECT id FROM audit_logs")}
    assert all('"source":"reference"' in repr(row) for row in rows)
    assert sum("login_failed" in row for row in rows) == 1
    assert all("2026-11-22" in repr(row) or "datetime(2026, 11, 22" in repr(row) for row in rows)


async def check_audit(settings: Settings) -> list[tuple[str, str]]:
    """Check the chain of the audit trail as ``codelab db check`` does."""
    database = Database(parse_url(settings.auth.db_url, "V"), SCHEMA)
    try:
        async with database.engine.connect() as connection:
            (check,) = (one for one in describe(settings.auth).checks if one.name == "audit chain")
            return [(finding.severity, finding.detail) for finding in await check.find(connection)]
    finally:
        await database.engine.dispose()


async def test_audit_logs_are_in_the_chain(settings: Settings, sample: Reference) -> None:
    """From the first start on; where a server ran before, from the import on."""
    await import_reference(settings, sample.urls)
    ((severity, detail),) = await check_audit(settings)
    assert (severity, "at its next start" in detail) == ("note", True)
    async with serving(settings) as running:
        await log_in(running.http, "nobody", "wrong")

    assert await check_audit(settings) == []


async def test_audit_logs_join_the_chain_of_a_target_in_use(
    migrated: DatabaseUrls, tmp_path: Path, sample: Reference
) -> None:
    """They come after what is there, and nothing of it is broken."""
    settings = make_settings(migrated, tmp_path)
    async with serving(settings) as running:
        await log_in(running.http, "nobody", "wrong")
    await import_reference(settings, sample.urls)
    assert await check_audit(settings) == []
    async with serving(settings) as running:
        await log_in(running.http, "nobody", "wrong")

    assert await check_audit(settings) == []


async def test_a_serving_server_is_not_disturbed(settings: Settings, sample: Reference) -> None:
    """While a server works with the databases the import is refused, also as a dry run."""
    async with serving(settings):
        before = await dump(settings)
        for dry_run in (False, True):
            with pytest.raises(StartError, match="another codelab server uses this database"):
                await import_reference(settings, sample.urls, dry_run=dry_run)

        assert (await dump(settings))["agent.sessions"] == before["agent.sessions"] == []


async def test_from_postgresql(settings: Settings, sample: Reference, postgresql: PostgresServer) -> None:
    """The reference's PostgreSQL databases give what its SQLite files give, and are not written."""
    urls = postgresql.create(), postgresql.create()
    try:
        for path, url in zip((sample.agent, sample.auth), urls, strict=True):
            await fill_postgres(path, url)
        theirs = replace(
            settings, agent=replace(settings.agent, db_url=urls[0]), auth=replace(settings.auth, db_url=urls[1])
        )
        before = await dump(theirs)
        expected = await import_reference(settings, sample.urls, dry_run=True)
        assert await import_reference(settings, urls) == expected
        assert await dump(theirs) == before
        async with serving(settings) as running:
            alice = await running.person("alice")
            for session in ("bce29901-e1f4-413c-855e-b0edf495dfb7", "sample-tools", "sample-switch"):
                history = [(m["role"], m["content"]) for m in await alice.history(session)]
                assert history == told(sample, session)
            assert (await log_in(running.http, "admin", PASSWORDS["admin"])).status_code == 200
    finally:
        for url in urls:
            postgresql.drop(url)
