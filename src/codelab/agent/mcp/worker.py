"""Making the calls of MCP tools: one task each, with no transaction open while the server works.

The call is marked in the database before the server is asked. One that is marked by a process which is gone is of
unknown outcome, see ``codelab.agent.turns.claims``, unless its tool says that it may run twice.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.mcp.remote import McpFailed, Way, call_tool
from codelab.agent.mcp.tools import is_foreign
from codelab.agent.policy.file import MCP
from codelab.agent.repository import claims, turns
from codelab.agent.repository import mcp as rows
from codelab.db.faults import is_unavailable

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.log import EventLog
    from codelab.agent.mcp.catalogue import Catalogue
    from codelab.agent.mcp.queue import CallQueue
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.db import Database, Transaction

__all__ = ("Worker",)

logger = logging.getLogger(__name__)

#: Calls that are made at once.
AT_ONCE = 64
#: Seconds between two tries to mark a call while the database is away.
AGAIN = 0.5
#: What no client can call itself.
SERVER = "server:"
GONE = "The tool {} is not there any more: its MCP server was removed, is not allowed now, or does not offer it."
UNKNOWN = " Nobody knows whether it did something. Look before you repeat it."


class _Work(msgspec.Struct):
    call: Any
    remote: str
    safe: bool
    way: Way
    arguments: dict[str, Any]


class Worker:
    """Make the calls of a queue; ``owner`` names this process.

    A call may take so many ``seconds``, and bring ``most`` bytes.
    """

    def __init__(
        self,
        database: Database,
        log: EventLog,
        calls: CallTransitions,
        runner: Runner,
        catalogue: Catalogue,
        queue: CallQueue,
        *,
        owner: str,
        seconds: float,
        most: int,
    ) -> None:
        self._database = database
        self._log = log
        self._calls = calls
        self._runner = runner
        self._catalogue = catalogue
        self._queue = queue
        self._owner = SERVER + owner
        self._seconds = seconds
        self._most = most
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin, also with the calls that an earlier process left before it made them.

        Where no server is allowed any more those end as failed, as every turn has to go on.
        """
        async with self._database.read() as db:
            left = await rows.list_waiting_calls(db, MCP)
        for row in left:
            self._tasks.add(asyncio.create_task(self._put_when_known(row), name="codelab-mcp-left"))
        self._tasks.add(asyncio.create_task(self._serve(), name="codelab-mcp"))

    async def stop(self) -> None:
        """Stop where everything is; the next process finds what was under way."""
        tasks = [*self._queue.running.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _put_when_known(self, row: Row[Any]) -> None:
        await self._catalogue.wait_for_tool(row.tool_name)
        self._queue.put(row.db_id)

    async def _serve(self) -> None:
        while True:
            call_db_id = await self._queue.get()
            if call_db_id not in self._queue.running:
                task = asyncio.create_task(self._run(call_db_id), name=f"codelab-mcp-{call_db_id}")
                self._queue.running[call_db_id] = task

    async def _run(self, call_db_id: int) -> None:
        try:
            async with self._slots:
                work = await self._mark(call_db_id)
                if work is not None:
                    await self._make(work)
        except Exception as error:
            # The call stays marked as ours, and is of unknown outcome after the grace.
            if is_unavailable(error):
                logger.warning("a call of an MCP tool met a database that is away: %s", type(error).__name__)
            else:
                logger.exception("a call of an MCP tool failed in a way that nobody expected")
        finally:
            self._queue.running.pop(call_db_id, None)

    async def _mark(self, call_db_id: int) -> _Work | None:
        """Mark a call as ours, however long the database is away: nobody else would look for it again.

        A call whose mark was committed without our being told is of unknown outcome after the grace.
        """
        while True:
            try:
                return await self._database.write(lambda tx: self._take(tx, call_db_id))
            except Exception as error:
                if not is_unavailable(error):
                    raise
                logger.warning("a call of an MCP tool waits for the database: %s", type(error).__name__)
            await asyncio.sleep(AGAIN)

    async def _take(self, tx: Transaction, call_db_id: int) -> _Work | None:
        call = await rows.find_waiting_call(tx.session, call_db_id)
        turn = None if call is None else await turns.find_active(tx.session, call.session_db_id)
        if call is None or turn is None or call.turn_db_id != turn.db_id or not is_foreign(call.tool_name):
            return None
        tool = (await self._catalogue.of_session(tx.session, call.session_db_id)).get(call.tool_name)
        if tool is not None and tool.client_id is not None:
            return None  # it waits for that client
        way = None if tool is None else await self._catalogue.way(tx.session, call.session_db_id, tool)
        if tool is None or way is None:
            await self._end(tx, turn, call, error=GONE.format(call.tool_name))
            return None
        await claims.claim(tx.session, call.db_id, self._owner)
        data = {
            "call_id": call.call_id,
            "turn_id": turn.id,
            "tool_name": call.tool_name,
            "client_id": self._owner,
            "attempt": call.attempt,
        }
        await self._log.append(tx, call.session_db_id, ("tool.claimed", data))
        return _Work(call, tool.remote, tool.safe, way, msgspec.json.decode(call.arguments))

    async def _make(self, work: _Work) -> None:
        result: str | None = None
        error: str | None = None
        try:
            answer = await call_tool(work.way, work.remote, work.arguments, seconds=self._seconds, most=self._most)
            result, error = (None, answer.text or "The tool failed.") if answer.is_error else (answer.text, None)
        except McpFailed as failed:
            error = str(failed) + ("" if work.safe else UNKNOWN)

        async def unit(tx: Transaction) -> None:
            call = await claims.find_claimed(tx.session, work.call.db_id, self._owner)
            turn = await turns.find_active(tx.session, work.call.session_db_id)
            if call is not None and turn is not None and turn.db_id == call.turn_db_id:
                await self._end(tx, turn, call, result=result, error=error)

        await self._database.write(unit)

    async def _end(
        self, tx: Transaction, turn: Row[Any], call: Row[Any], *, result: str | None = None, error: str | None = None
    ) -> None:
        await self._calls.answer(tx, turn, call, "completed" if error is None else "failed", result=result, error=error)
        await self._runner.resume_when_answered(tx, turn)
