"""The audit trail is chained: whoever changes it without the key is found, whoever has the key may prune and erase."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import Connection, text

from codelab.auth.audit import Audit
from codelab.auth.repository import audit
from codelab.auth.schemas import Origin
from codelab.auth.storage import SCHEMA, describe
from codelab.db import Database, parse_url
from codelab.db.migrate import alembic_config
from tests.support.auth import running_auth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from codelab.db import Transaction
    from codelab.settings import AuthSettings
    from codelab.storage import Finding
    from tests.support.auth import RunningAuth

ORIGIN = Origin(ip_address="192.0.2.1", user_agent="tests", request_id="0193-request")


async def check(auth: RunningAuth, settings: AuthSettings | None = None) -> list[Finding]:
    """Run the module's checks as ``codelab db check`` does."""
    async with auth.module.database.engine.connect() as connection:
        (check,) = (one for one in describe(settings or auth.settings).checks if one.name == "audit chain")
        return await check.find(connection)


async def record(auth: RunningAuth, count: int, user_id: str | None = None) -> None:
    """Write some rows, in one transaction."""
    await write(auth.module.database, auth.module._audit, count, user_id)


async def write(database: Database, audit: Audit, count: int, user_id: str | None = None) -> None:
    """Write some rows, in one transaction of this database."""

    async def unit(tx: Transaction) -> None:
        for number in range(count):
            data: dict[str, Any] = {"number": number, "text": 'né "\\u0000"', "float": 1e5}
            audit.record(tx.session, "token_refresh", ORIGIN, user_id=user_id, client_id="c", **data)

    await database.write(unit)


async def trail(auth: RunningAuth) -> list[dict[str, Any]]:
    """Return the chained rows in order."""
    return await auth.rows("SELECT * FROM audit_logs WHERE seq IS NOT NULL ORDER BY seq")


@pytest.fixture
async def ten(auth: RunningAuth) -> list[str]:
    """Ten rows of the trail, by id, ``seq`` 1 to 10."""
    await record(auth, 10)
    rows = await trail(auth)
    assert [row["seq"] for row in rows] == list(range(1, 11))
    return [row["id"] for row in rows]


def faults(findings: list[Finding]) -> list[str]:
    """Say each fault in one line."""
    return [f"{each.detail}: {' '.join(each.rows)}" for each in findings if each.severity == "fault"]


class TestWriting:
    async def test_what_the_server_writes_is_whole(self, auth: RunningAuth) -> None:
        """Logins, failures and refreshes are chained from 1 without gaps, and the check finds nothing."""
        tokens = (await auth.login()).json()
        await auth.login(password="wrong")
        await asyncio.gather(*(auth.login(username=f"nobody-{n}") for n in range(10)))
        assert (await auth.refresh(tokens["refresh_token"])).status_code == 200
        rows = await trail(auth)

        assert [row["seq"] for row in rows] == list(range(1, 14))
        assert rows[0]["event_type"] == "login_success"
        assert rows[-1]["event_type"] == "token_refresh"
        assert await check(auth) == []

    async def test_many_processes_share_one_chain(self, auth: RunningAuth) -> None:
        """Two database objects, as server and command line have, write at once: no gap, no fork, no row lost."""
        async with another(auth) as other:
            writers = [
                [record(auth, 3) for _ in range(20)],
                [write(*other, 2) for _ in range(20)],
            ]
            await asyncio.gather(*writers[0], *writers[1])

            assert [row["seq"] for row in await trail(auth)] == list(range(1, 101))
            assert await check(auth) == []

    async def test_a_unit_that_fails_leaves_no_gap(self, auth: RunningAuth, ten: list[str]) -> None:
        """What is rolled back was never in the chain, also when others were in its batch."""

        async def fail(tx: Transaction) -> None:
            auth.module._audit.record(tx.session, "login_failed", ORIGIN, user_id=None, client_id="c")
            raise LookupError

        jobs = [record(auth, 1), auth.module.database.write(fail), record(auth, 1)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [type(None), LookupError, type(None)]
        assert len(await trail(auth)) == 12
        assert await check(auth) == []

    async def test_only_a_unit_of_work_can_write(self, auth: RunningAuth) -> None:
        """A session that nobody commits in the writer's way is refused, rather than its row lost."""
        async with auth.module.database.read() as session:
            with pytest.raises(RuntimeError, match="unit of work"):
                auth.module._audit.record(session, "login_failed", ORIGIN, user_id=None, client_id="c")

    async def test_a_deleted_user_changes_no_row(self, auth: RunningAuth) -> None:
        """The trail still says who it was."""
        (admin,) = await auth.rows("SELECT id FROM users")
        await record(auth, 1, admin["id"])
        await auth.execute("DELETE FROM users")

        assert (await trail(auth))[0]["user_id"] == admin["id"]
        assert await check(auth) == []


_MOVE = (
    "UPDATE audit_logs SET seq = 99 WHERE seq = 3",
    "UPDATE audit_logs SET seq = 3 WHERE seq = 4",
    "UPDATE audit_logs SET seq = 4 WHERE seq = 99",
)
_COPY = (
    "INSERT INTO audit_logs (id, user_id, client_id, event_type, success, created_at, seq, payload_hash, mac) "
    "SELECT 'intruder', user_id, client_id, event_type, success, created_at, {seq}, payload_hash, mac "
    "FROM audit_logs WHERE seq = 3"
)
CHANGED = "the content was changed"
WRONG = "the MAC is wrong: the row was changed, moved or put in"


class TestTampering:
    """Whoever can write into the database but has no key: each deed is found, with the id of the row."""

    @pytest.mark.parametrize(
        ("deed", "expected"),
        [
            (("UPDATE audit_logs SET ip_address = '203.0.113.9' WHERE seq = 3",), f"{CHANGED}: {{3}}"),
            (("UPDATE audit_logs SET success = NOT success WHERE seq = 3",), f"{CHANGED}: {{3}}"),
            (("UPDATE audit_logs SET event_data = NULL WHERE seq = 3",), f"{CHANGED}: {{3}}"),
            (("UPDATE audit_logs SET user_id = 'someone' WHERE seq = 3",), f"{CHANGED}: {{3}}"),
            (("UPDATE audit_logs SET payload_hash = mac WHERE seq = 3",), f"{CHANGED}: {{3}}\n{WRONG}: {{3}}"),
            (("UPDATE audit_logs SET mac = payload_hash WHERE seq = 3",), f"{WRONG}: {{3}} {{4}}"),
            (("DELETE FROM audit_logs WHERE seq = 3",), "rows 3 to 3 are missing, before: {4}"),
            (("DELETE FROM audit_logs WHERE seq < 4",), "rows 1 to 3 are missing, before: {4}"),
            (("DELETE FROM audit_logs WHERE seq IN (3, 4, 7)",), "rows 3 to 4 are missing, before: {5}"),
            (("DELETE FROM audit_logs WHERE seq > 8",), "rows 9 to 10 are missing at the end: "),
            (("DELETE FROM audit_logs",), "rows 1 to 10 are missing at the end: "),
            (_MOVE, f"{WRONG}: {{4}} {{3}} {{5}}"),
            ((_COPY.format(seq="NULL"),), "not in the chain: put in without the key: intruder"),
            ((_COPY.format(seq=11),), "after the end of the chain: put in without the key: intruder"),
            (
                (_COPY.format(seq=11), "UPDATE auth_audit_head SET seq = 11"),
                f"{WRONG}: intruder",
            ),
            (
                ("UPDATE audit_logs SET seq = -seq WHERE seq > 2", _COPY.format(seq=99).replace("seq = 3", "seq = -3"),
                 "UPDATE audit_logs SET seq = 1 - seq WHERE seq < 0", "UPDATE audit_logs SET seq = 3 WHERE seq = 99"),
                f"{CHANGED}: intruder\n{WRONG}: {{3}}",
            ),
            (
                ("DELETE FROM audit_logs WHERE seq > 8",
                 "UPDATE auth_audit_head SET seq = 8, mac = (SELECT mac FROM audit_logs WHERE seq = 8)"),
                "the head of the chain is not what was written: rows may have been cut off: ",
            ),
            (("DELETE FROM auth_audit_head",), "the head of the chain is gone"),
            (("UPDATE auth_audit_head SET key_id = 'x'",), "the chain ends under the key x"),
            (("DELETE FROM auth_audit_checkpoints",), "the checkpoints are not those that"),
            (("UPDATE auth_audit_checkpoints SET key_id = 'x'",), "the checkpoints are not those that"),
            (("UPDATE auth_audit_checkpoints SET reason = 'x'",), "checkpoint 1 is not what was written"),
            (
                ("DELETE FROM audit_logs WHERE seq < 4",
                 ("INSERT INTO auth_audit_checkpoints (number, kind, seq, mac, key_id, reason, created_at, proof) "
                 "SELECT 2, 'pruned', 3, proof, key_id, 'x', created_at, proof FROM auth_audit_checkpoints")),
                "checkpoint 2 is not what was written",
            ),
            (
                (("UPDATE audit_logs SET user_id = NULL, client_id = NULL, event_data = NULL, ip_address = NULL, "
                 "user_agent = NULL, error_message = NULL, erased_at = created_at, erased_mac = mac WHERE seq = 3"),),
                "the content was emptied without the key: {3}",
            ),
        ],
    )  # fmt: skip
    async def test_it_is_found(self, auth: RunningAuth, ten: list[str], deed: tuple[str, ...], expected: str) -> None:
        """Changed, removed, moved, put in, cut off, re-headed, pruned or erased without the key."""
        assert await check(auth) == []
        for statement in deed:
            await auth.execute(statement)
        found = "\n".join(faults(await check(auth)))
        for number, row_id in enumerate(ten, start=1):
            expected = expected.replace(f"{{{number}}}", row_id)

        for line in expected.splitlines():
            assert line in found

    async def test_only_the_rows_that_were_touched_are_named(self, auth: RunningAuth, ten: list[str]) -> None:
        """A change early in a long chain does not accuse all that follow."""
        await record(auth, 2500)
        await auth.execute("UPDATE audit_logs SET client_id = 'x' WHERE seq IN (2, 2000)")
        rows = await trail(auth)
        (finding,) = await check(auth)

        assert finding.rows == (ten[1], rows[1999]["id"])

    async def test_many_faults_are_counted_and_some_named(self, auth: RunningAuth) -> None:
        """The report stays short."""
        await record(auth, 50)
        await auth.execute("UPDATE audit_logs SET client_id = 'x'")
        (finding,) = await check(auth)

        assert "(50 rows, of which 20 are named)" in finding.detail
        assert len(finding.rows) == 20


class TestErasing:
    async def test_a_payload_is_erased_and_the_chain_stands(self, auth: RunningAuth, ten: list[str]) -> None:
        """What is about a person is emptied; that there was such an event stays, and nothing is broken."""
        chain = auth.module._audit.chain
        erased = await auth.module.database.write(lambda tx: chain.erase(tx.session, ten[2:5]))
        again = await auth.module.database.write(lambda tx: chain.erase(tx.session, ten[2:5]))
        row = (await trail(auth))[2]

        assert (erased, again) == (3, 0)
        emptied = ("user_id", "client_id", "event_data", "ip_address", "user_agent", "error_message")
        assert [row[name] for name in emptied] == [None] * 6
        assert (row["id"], row["event_type"]) == (ten[2], "token_refresh")
        assert row["erased_at"] is not None
        assert await check(auth) == []

    @pytest.mark.parametrize("change", ["client_id = 'x'", "event_type = 'x'", "erased_mac = NULL"])
    async def test_an_erased_row_is_still_guarded(self, auth: RunningAuth, ten: list[str], change: str) -> None:
        """Neither what stays of it nor what is gone can be written anew."""
        chain = auth.module._audit.chain
        await auth.module.database.write(lambda tx: chain.erase(tx.session, ten[2:3]))
        await auth.execute(f"UPDATE audit_logs SET {change} WHERE seq = 3")  # noqa: S608 - ours
        (fault,) = faults(await check(auth))

        assert fault.endswith(ten[2])


class TestPruning:
    async def test_a_prefix_is_pruned_behind_a_checkpoint(self, auth: RunningAuth, ten: list[str]) -> None:
        """At each step, also between checkpoint and deletion, the rest can be verified; new rows go on."""
        chain = auth.module._audit.chain
        await auth.module.database.write(lambda tx: chain.cut(tx.session, 6, "older than 10 days"))
        (note,) = await check(auth)
        assert (note.severity, "6 rows" in note.detail) == ("note", True)
        await auth.execute("DELETE FROM audit_logs WHERE seq <= 4")
        (note,) = await check(auth)
        assert (note.severity, "2 rows" in note.detail) == ("note", True)
        await auth.execute("DELETE FROM audit_logs WHERE seq <= 6")
        await record(auth, 5)
        assert await check(auth) == []
        (_, pruned) = await auth.rows("SELECT * FROM auth_audit_checkpoints ORDER BY number")

        assert (pruned["kind"], pruned["seq"], pruned["reason"]) == ("pruned", 6, "older than 10 days")
        await auth.execute("DELETE FROM audit_logs WHERE seq = 7")
        assert "rows 7 to 7 are missing" in faults(await check(auth))[0]

    async def test_everything_can_be_pruned(self, auth: RunningAuth, ten: list[str]) -> None:
        """The next row goes on after the checkpoint."""
        chain = auth.module._audit.chain
        await auth.module.database.write(lambda tx: chain.cut(tx.session, 10, "all"))
        await auth.execute("DELETE FROM audit_logs")
        assert await check(auth) == []
        await record(auth, 1)

        assert [row["seq"] for row in await trail(auth)] == [11]
        assert await check(auth) == []


@asynccontextmanager
async def another(auth: RunningAuth) -> AsyncIterator[tuple[Database, Audit]]:
    """A second process's view of the same database: its own engine, writer and chain."""
    database = Database(parse_url(auth.settings.db_url, "V"), SCHEMA)
    audit = Audit(database, auth.settings.key_encryption_key_file)
    await database.start(5)
    try:
        await audit.open()
        yield database, audit
    finally:
        await database.stop()


class TestKeys:
    async def test_a_new_key_begins_a_new_part(self, settings: AuthSettings) -> None:
        """When the key file is lost the old part is not verifiable, which is said and is no fault; the new one is."""
        async with running_auth(settings) as auth:
            await record(auth, 3)
        settings.key_encryption_key_file.unlink()
        async with running_auth(settings) as auth:
            await record(auth, 3)
            (note,) = await check(auth)
            rows = await trail(auth)
            await auth.execute("UPDATE audit_logs SET client_id = 'x' WHERE seq IN (2, 5)")
            (_, fault) = await check(auth)

        assert [row["seq"] for row in rows] == list(range(1, 8))
        assert rows[3]["event_type"] == "key_made"
        assert (note.severity, note.detail[:45]) == ("note", "rows 1 to 3 cannot be verified with this key;")
        assert fault.rows == (rows[1]["id"], rows[4]["id"])

    async def test_a_part_of_another_key_cannot_be_claimed(self, settings: AuthSettings) -> None:
        """With the key back the first part is verified again, and nobody can say that it was another key's."""
        async with running_auth(settings) as auth:
            await record(auth, 3)
        old = settings.key_encryption_key_file.read_text()
        for key in (None, old):
            settings.key_encryption_key_file.unlink()
            if key is not None:
                settings.key_encryption_key_file.write_text(key)
            async with running_auth(settings) as auth:
                await record(auth, 1)
        async with running_auth(settings) as auth:
            (note,) = await check(auth)
            await auth.execute("UPDATE auth_audit_checkpoints SET key_id = 'x' WHERE number = 1")
            forged = faults(await check(auth))

        assert note.detail.startswith("rows 4 to 5 cannot be verified with this key")
        assert "checkpoint 3 is not what was written: " in forged

    async def test_without_a_key_file_the_check_says_what_it_did_not_do(
        self, auth: RunningAuth, ten: list[str]
    ) -> None:
        """Hashes and order are checked; nothing is made where the key should be."""
        path = auth.settings.key_encryption_key_file
        path.rename(path.with_name("away"))
        (note,) = await check(auth)
        await auth.execute("UPDATE audit_logs SET client_id = 'x' WHERE seq = 2")

        assert (note.severity, "no key file" in note.detail) == ("note", True)
        assert faults(await check(auth)) == [f"{CHANGED}: {ten[1]}"]
        assert not path.exists()


class TestUpgrade:
    @pytest.fixture
    def settings(self, new_settings: AuthSettings) -> AuthSettings:
        """An empty database, to be brought to the first revision."""
        return new_settings

    async def test_rows_from_before_are_taken_up_at_the_start(self, settings: AuthSettings) -> None:
        """A filled database of the first revision: nothing is lost, the order is by time, a checkpoint says since."""
        await _fill_first_revision(settings, 1234)
        async with running_auth(settings) as auth:
            rows = await trail(auth)
            checkpoints = await auth.rows("SELECT kind, seq FROM auth_audit_checkpoints ORDER BY number")

            assert [row["id"] for row in rows[:3]] == ["row-0000", "row-0001", "row-0002"]
            assert [row["seq"] for row in rows] == list(range(1, 1235))
            assert [tuple(row.values()) for row in checkpoints] == [("epoch", 0), ("adopted", 1234)]
            assert await check(auth) == []
            await auth.execute("UPDATE audit_logs SET client_id = 'x' WHERE seq = 1000")
            assert len(await check(auth)) == 1

    async def test_before_that_start_the_check_says_so(self, settings: AuthSettings) -> None:
        """An upgraded database that no server has opened is not called broken."""
        await _fill_first_revision(settings, 3)
        database = Database(parse_url(settings.db_url, "V"), SCHEMA)
        await database.start(5)
        try:
            async with database.engine.connect() as connection:
                (check,) = (one for one in describe(settings).checks if one.name == "audit chain")
                (note,) = await check.find(connection)
        finally:
            await database.stop()

        assert (note.severity, "in no chain yet" in note.detail) == ("note", True)

    async def test_down_and_up_again_keep_the_rows(self, auth: RunningAuth, ten: list[str]) -> None:
        """The way back loses the proof, not the trail, also where a user is gone."""
        await record(auth, 1, "nobody")

        def there_and_back(connection: Connection) -> None:
            config = alembic_config(SCHEMA, connection)
            command.downgrade(config, "0001")
            command.upgrade(config, "head")

        async with auth.module.database.engine.begin() as connection:
            await connection.run_sync(there_and_back)
        rows = await auth.rows("SELECT id, seq, user_id FROM audit_logs ORDER BY id")

        assert len(rows) == 11
        assert {(row["seq"], row["user_id"]) for row in rows} == {(None, None)}

    async def test_rows_of_another_program_are_adopted_on_request(self, auth: RunningAuth, ten: list[str]) -> None:
        """An import adds rows and takes them up; the checkpoint says from where."""
        await auth.execute(_COPY.format(seq="NULL"))
        assert len(faults(await check(auth))) == 1
        chain = auth.module._audit.chain
        adopted = await auth.module.database.write(lambda tx: chain.adopt(tx.session, "imported"))

        assert adopted == 1
        assert (await trail(auth))[-1]["id"] == "intruder"
        assert await check(auth) == []


async def _fill_first_revision(settings: AuthSettings, count: int) -> None:
    database = Database(parse_url(settings.db_url, "V"), SCHEMA)
    await database.reach(5)

    def to_first(connection: Connection) -> None:
        command.upgrade(alembic_config(SCHEMA, connection), "0001")

    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(to_first)
            insert = text(
                "INSERT INTO audit_logs (id, client_id, event_type, event_data, success, created_at) "
                "VALUES (:id, 'c', 'login_success', '{\"a\"\\:1}', true, :at)"
            )
            await _insert_backwards(connection.execute, insert, count)
    finally:
        await database.engine.dispose()


async def _insert_backwards(execute: Callable[..., Any], insert: Any, count: int) -> None:
    from datetime import UTC, datetime, timedelta

    from sqlalchemy import bindparam

    from codelab.db import UtcDateTime

    start = datetime(2026, 11, 1, tzinfo=UTC)
    rows = [{"id": f"row-{n:04}", "at": start + timedelta(seconds=n)} for n in reversed(range(count))]
    await execute(insert.bindparams(bindparam("at", type_=UtcDateTime())), rows)


def test_every_column_of_the_trail_is_in_the_hash() -> None:
    """A column that somebody adds later is recorded too, unless it belongs to the chain."""
    names = {column.name for column in audit.AUDIT.rows.c}

    assert {column.name for column in audit.AUDIT.payload} == names - {
        *("seq", "payload_hash", "mac", "erased_at", "erased_mac"),
    }
