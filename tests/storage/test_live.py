"""Copies and archives of databases that a server writes to: the state of one instant."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.db import parse_url
from codelab.db.engine import create_engine
from tests.storage.commands import environ
from tests.support.forking import fork_codelab
from tests.support.process import clean_environ
from tests.support.server import Person, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

#: Sessions whose log has a gap, or another end than the session says.
_TORN = text("""
SELECT id FROM sessions WHERE last_seq <> (SELECT count(*) FROM session_events WHERE session_db_id = db_id)
OR last_seq <> (SELECT coalesce(max(seq), 0) FROM session_events WHERE session_db_id = db_id)
""")


async def torn(url: str) -> tuple[int, list[str]]:
    """Count the events of a database, and name the sessions that are not of one instant."""
    engine = create_engine(parse_url(url, "TEST_DB_URL"), "codelab.test")
    async with engine.connect() as connection:
        events = (await connection.execute(text("SELECT count(*) FROM session_events"))).scalar_one()
        sessions = (await connection.execute(_TORN)).scalars().all()
    await engine.dispose()
    return events, list(sessions)


async def test_a_source_that_is_written_to(
    databases: DatabaseUrls, dialect: str, make: Callable[[str], str], tmp_path: Path
) -> None:
    """While people talk, a copy and an archive hold whole turns of the log, more of it each time; nobody is held up."""
    other = "sqlite" if dialect == "postgresql" else "postgresql"
    variables = clean_environ(tmp_path, **environ(databases))
    stop = asyncio.Event()

    async def talk(person: Person, session: str) -> int:
        said = 0
        while not stop.is_set():
            await person.say(session, f"message {said}")
            await person.until(session, "turn.completed", after=said)
            said += 1
        return said

    async def run(*arguments: str, **more: str) -> None:
        answer = await asyncio.to_thread(fork_codelab, "db", *arguments, folder=tmp_path, environ={**variables, **more})
        assert answer.returncode == 0, answer.stderr

    async with serving(make_settings(databases, tmp_path)) as server:
        person = await server.person()
        talks = [asyncio.create_task(talk(person, await person.session())) for _ in range(4)]
        try:
            copies = []
            for _ in range(2):
                target = make(other)
                await run("copy", "--from", databases.agent, "--to", target)
                copies.append(await torn(target))
            await run("export", "live.tar.zst")
            target = make(dialect)
            await run("import", "live.tar.zst", "--module", "agent", AGENT_RUNTIME__DB_URL=target)
            copies.append(await torn(target))
        finally:
            stop.set()
            said = await asyncio.gather(*talks)

    assert [sessions for _, sessions in copies] == [[], [], []]
    counts = [events for events, _ in copies]
    assert 0 < counts[0] < counts[1] < counts[2]
    assert min(said) > 0
    assert (await torn(databases.agent))[1] == []
