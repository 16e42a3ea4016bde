from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, select

from codelab.agent.log import EventLog
from codelab.agent.repository import sessions, tables, turns
from codelab.agent.turns.ticks import CROWD, Ticks
from codelab.db import Database, new_id, now
from codelab.text import canonical_json

if TYPE_CHECKING:
    from codelab.db import Transaction


async def _running_turn(database: Database) -> tuple[str, int]:
    """Make a session with a running turn; return the id of the turn and the key of the session."""
    session_id, turn_id = new_id(), new_id()

    async def begin(tx: Transaction) -> None:
        await sessions.add(tx.session, session_id=session_id, owner_id="ada", title=None, agent="ask", metadata={})

    async def unit(tx: Transaction) -> int:
        db = tx.session
        row = await sessions.find(db, "ada", session_id)
        assert row is not None
        lease = ("here", now())
        await turns.add(db, turn_id=turn_id, session_db_id=row.db_id, message_id=new_id(), lease=lease)
        return int(row.db_id)

    await database.write(begin)  # its context follows at the end of the transaction
    return turn_id, await database.write(unit)


class _Stream:
    """What one model says, a text at a time."""

    def __init__(self, ticks: Ticks, turn_id: str, key: Any) -> None:
        self._ticks = ticks
        self._turn = (turn_id, key)
        self._text = ""
        self._outcome: asyncio.Future[None] | None = None

    async def say(self, text: str) -> None:
        self._text = text
        self._outcome = asyncio.get_running_loop().create_future()
        self._ticks.add(self)
        await self._outcome

    def add(self, text: str) -> None:
        self._text += text

    def take(self) -> tuple[str, int, str, str]:
        return (*self._turn, "message.delta", canonical_json({"text": self._text}))

    def written(self, failure: Exception | None) -> None:
        assert self._outcome is not None
        self._outcome.set_exception(failure) if failure else self._outcome.set_result(None)


async def _said(database: Database, key: int) -> list[tuple[int, str]]:
    async with database.read() as db:
        query = select(tables.events.c.seq, tables.events.c.data).where(tables.events.c.session_db_id == key)
        return [(seq, data) for seq, data in await db.execute(query.order_by(tables.events.c.seq))]


async def test_all_streams_share_a_transaction(database: Database) -> None:
    """What twenty models say at once is one commit, and each log has its own, in order and without gaps."""
    made = [await _running_turn(database) for _ in range(20)]
    ticks = Ticks(database, EventLog(database), "here")
    commits: Counter[str] = Counter()
    event.listen(database.engine.sync_engine, "commit", lambda _: commits.update(["commit"]))

    streams = [_Stream(ticks, *one) for one in made]
    for offset in range(3):
        said_now = [stream.say(f"{offset} of {key}") for stream, (_, key) in zip(streams, made, strict=True)]
        await asyncio.gather(*said_now)

    assert commits["commit"] == 3
    for _, key in made:
        said = await _said(database, key)
        assert [seq for seq, _ in said] == [1, 2, 3]
        assert [f'"text":"{offset} of {key}"' in data for offset, (_, data) in enumerate(said)] == [True] * 3


async def test_a_turn_that_ended_says_nothing_more(database: Database) -> None:
    """What a model still says after its turn was cancelled is dropped, and nobody else's text with it."""
    (ended, silent), (running, heard) = await _running_turn(database), await _running_turn(database)

    async def end(tx: Transaction) -> None:
        turn = await turns.find_active(tx.session, silent)
        assert turn is not None
        await turns.end(tx.session, turn.db_id, "cancelled")

    await database.write(end)
    ticks = Ticks(database, EventLog(database), "here")
    await asyncio.gather(_Stream(ticks, ended, silent).say("late"), _Stream(ticks, running, heard).say("on"))

    assert await _said(database, silent) == []
    assert len(await _said(database, heard)) == 1


async def test_a_text_that_cannot_be_written_harms_nobody_else(database: Database) -> None:
    """The stream whose text the database refuses gets the error; the others of its tick are written once."""
    (turn, key), (other, other_key) = await _running_turn(database), await _running_turn(database)
    ticks = Ticks(database, EventLog(database), "here")
    wrong = object()  # a key that no driver can bind

    bad, good = await asyncio.gather(
        _Stream(ticks, turn, wrong).say("never"),
        _Stream(ticks, other, other_key).say("well"),
        return_exceptions=True,
    )

    assert isinstance(bad, Exception)
    assert good is None
    assert await _said(database, key) == []
    assert [seq for seq, _ in await _said(database, other_key)] == [1]


async def test_models_of_a_crowd_are_read_once_for_each_tick(database: Database) -> None:
    """Whose text waits for a tick is read again right before it; where few speak nobody waits, and nobody for ever."""
    made = [await _running_turn(database) for _ in range(CROWD)]
    ticks = Ticks(database, EventLog(database), "here")
    streams = [_Stream(ticks, *one) for one in made]
    few = [asyncio.create_task(stream.say("few")) for stream in streams[:-1]]
    await few[0]
    alone = ticks.due()
    await asyncio.gather(*few)

    async def speak(stream: _Stream) -> bool:
        """Say the first of two words; the other is read when the next tick is due, and goes with it."""
        await stream.say("one")
        said = asyncio.create_task(stream.say("two"))
        await asyncio.sleep(0)
        due = ticks.due()
        if due is not None:
            await due
            stream.add(" three")
        await said
        return due is not None

    waited = await asyncio.gather(*map(speak, streams))
    last = ticks.due()
    if last is not None:
        await asyncio.wait_for(last, 30)

    assert alone is None
    assert all(waited)
    for _, key in made:
        assert [canonical_json({"text": "two three"}) == data for _, data in await _said(database, key)][-1]
