"""Deleted sessions are really removed in the end, beside people who work, and whenever the process dies."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.agent.cleaning import remove_deleted
from codelab.db import now, upkeep
from codelab.db.upkeep import Batches
from tests.agent.test_folding import inflate, key_of, ranges, read_two_files
from tests.agent.transcripts import END, types
from tests.agent.witness import Witness

if TYPE_CHECKING:
    import pytest

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

TABLES = (
    *("session_events", "folded_ranges", "pending_approvals", "tool_calls", "messages", "turns", "agent_switches"),
    *("agent_contexts", "sessions"),
)


async def remove(running: Running, ago: timedelta = timedelta(seconds=-1)) -> int:
    """Remove every session that was deleted before so long ago."""
    database = running.app.state.agent.database
    return await remove_deleted(database, Batches(database), now() - ago)


async def counts(running: Running) -> dict[str, int]:
    """Count the rows of every table that has rows of sessions."""
    async with running.app.state.agent.database.read() as db:
        return {
            table: (await db.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()  # noqa: S608 - ours
            for table in TABLES
        }


class TestDeletedSessions:
    async def test_all_of_it_goes_and_nothing_else(self, running: Running, ada: Person) -> None:
        """Every table is as it was before the session was made; a session that lives keeps each of its rows."""
        kept, _ = await read_two_files(ada)
        before = await counts(running)
        dead = await ada.session()
        await ada.say(dead, "run make test")
        await ada.until(dead, "turn.waiting")
        during = await counts(running)
        await ada.http.delete(f"/api/v1/sessions/{dead}")
        assert await remove(running, timedelta(days=30)) == 0
        assert await remove(running) > 0

        assert all(during[table] > before[table] for table in TABLES if table != "folded_ranges")
        assert await counts(running) == before
        assert types(await ada.until(kept, *END))[-1] == "turn.completed"
        assert await remove(running) == 0

    async def test_beside_twenty_writers(self, running: Running, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sessions are removed in small batches while twenty people's turns run: no turn fails, no event is lost."""
        monkeypatch.setattr(upkeep, "FIRST_ROWS", 5)
        dead = [(await read_two_files(ada))[0] for _ in range(5)]
        for session in dead:
            await ada.http.delete(f"/api/v1/sessions/{session}")
        before = await counts(running)

        async def work() -> int:
            session = await ada.session(agent="ask")
            await ada.say(session, "count to 100")
            events = await ada.until(session, *END, after=0)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert events[-1].type == "turn.completed"
            return len(events)

        removing = asyncio.create_task(remove(running))
        lengths = await asyncio.gather(*(work() for _ in range(20)))
        assert await removing > 5 * 10
        after = await counts(running)

        assert before["sessions"] == 5
        assert after["sessions"] == 20
        assert after["session_events"] == sum(lengths)

    async def test_the_job_of_the_server_does_it(self, running: Running, ada: Person) -> None:
        """With the default settings nothing young goes; the figures are in the metrics."""
        session, _ = await read_two_files(ada)
        await ada.http.delete(f"/api/v1/sessions/{session}")
        job = running.app.state.agent.upkeep
        await job.run()
        assert job.counts == {"deltas": 0, "rows of deleted sessions": 0, "kept answers": 0, "audit rows": 0}
        async with running.app.state.agent.database.engine.begin() as connection:
            long_ago = (
                "2020-01-01 00:00:00.000000+00:00" if connection.dialect.name == "postgresql" else "2020-01-01 00:00:00"
            )
            await connection.execute(text(f"UPDATE sessions SET deleted_at = '{long_ago}'"))  # noqa: S608 - ours
        await job.run()

        assert job.counts["rows of deleted sessions"] > 10
        metrics = (await running.http.get("/metrics")).text
        removed = job.counts["rows of deleted sessions"]
        assert f'codelab_rows_removed_total{{kind="rows of deleted sessions"}} {removed}.0' in metrics


_PROGRAM = """
import asyncio, sys
from datetime import timedelta
from codelab.agent.cleaning import remove_deleted
from codelab.agent.folding import fold
from codelab.agent.storage import SCHEMA
from codelab.db import Database, now, parse_url
from codelab.db.upkeep import Batches

async def main():
    database = Database(parse_url(sys.argv[1], "URL"), SCHEMA)
    await database.start(5)
    done = 0
    async def pause(_):
        nonlocal done
        done += 1
        print(done, flush=True)
    batches = Batches(database, pause=pause)
    soon = now() + timedelta(seconds=1)
    await fold(database, batches, soon)
    await remove_deleted(database, batches, soon)

asyncio.run(main())
"""


async def test_a_kill_in_a_batch_loses_nothing(running: Running, ada: Person, migrated: DatabaseUrls) -> None:
    """Kill -9 after some batches, again and again: each log can be read to its end; a last run finishes the work."""
    session, _ = await read_two_files(ada)
    database = running.app.state.agent.database
    other = await ada.session(agent="ask")
    accepted = await ada.say(other, "count to 1")
    whole = await ada.until(other, *END, turn=accepted["turn_id"])
    await inflate(database, await key_of(running, other), 3000)
    dead, _ = await read_two_files(ada)
    await ada.http.delete(f"/api/v1/sessions/{dead}")
    for after in (1, 2, 4, 5):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, migrated.agent), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(after):
            await process.stdout.readline()
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
        events = await ada.until(other, *END)
        completed = next(event for event in events if event.type == "message.completed")
        assert completed.data["content"] == next(e for e in whole if e.type == "message.completed").data["content"]
        missing = set(range(1, events[-1].seq + 1)) - {event.seq for event in events}
        allowed = {seq for each in await ranges(running, other) for seq in range(each.first_seq, each.last_seq + 1)}
        assert missing <= allowed
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, migrated.agent, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0

    async with Witness.at(migrated) as witness:
        deltas = await witness.rows("SELECT count(*) FROM session_events WHERE type = 'message.delta'")
        assert deltas == [(0,)]
        assert await witness.rows("SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL") == [(0,)]
    assert len(await ranges(running, other)) == 1
    assert len(await ada.history(session)) == 4
