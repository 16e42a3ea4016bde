"""The runner: one task for each session that has work, from one model call to the next.

It keeps nothing that the database does not have. ``wake`` is all that recovery needs: a running turn that nobody works
on is taken up where the log ends. Whether somebody does is said by its lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from codelab.agent.providers import ModelError
from codelab.agent.repository import sessions, turns
from codelab.agent.turns.lease import find_own
from codelab.agent.turns.limits import add_seconds
from codelab.db.faults import is_unavailable

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.agents import Agents
    from codelab.agent.log import EventLog
    from codelab.agent.turns.calling import ModelCaller
    from codelab.agent.turns.context import ContextBuilder
    from codelab.agent.turns.lease import Leases
    from codelab.agent.turns.router import Router
    from codelab.agent.turns.transitions import Transitions
    from codelab.agent.turns.work import Work, WorkFinder
    from codelab.db import Database, Transaction

__all__ = ("Runner",)

logger = logging.getLogger(__name__)

#: Seconds until a session whose work failed unexpectedly (the database was away) is taken up again: first and longest.
RETRY_FIRST, RETRY_LONGEST = 0.5, 15.0


class Runner:
    """Run the turns of all sessions, one at a time in each."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        transitions: Transitions,
        agents: Agents,
        caller: ModelCaller,
        context: ContextBuilder,
        router: Router,
        leases: Leases,
        work: WorkFinder,
    ) -> None:
        self._database = database
        self._log = log
        self._transitions = transitions
        self._agents = agents
        self._caller = caller
        self._context = context
        self._router = router
        self._leases = leases
        self._work = work
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    @property
    def running(self) -> int:
        """How many sessions are worked on now."""
        return len(self._tasks)

    async def recover(self, *, proven: bool) -> None:
        """Take up every turn that an earlier process left running or queued.

        ``proven`` says that no other process can be at work: then no lease counts, else those that have ended.
        """
        if proven:
            await self._leases.free_all()
        await self._wake_unattended()

    async def keep_leases(self) -> None:
        """Renew the leases of all turns that run here, and take up what no process works on; a job of the module.

        Also a turn of this process that nobody works on: the commit that set it running may have seemed lost.
        """
        steps = dict(self._steps)
        own = await self._leases.renew() if self._tasks else set()
        for turn_id, step in steps.items():
            if turn_id not in own:  # taken over while the database was away, or just ended
                step.cancel()
        await self._wake_unattended()

    async def _wake_unattended(self) -> None:
        for session_db_id in await self._leases.list_unattended():
            self.wake(session_db_id)

    def wake(self, session_db_id: int, begun: tuple[Row[Any], Row[Any]] | None = None) -> None:
        """See to the work of a session; called after each commit that may have made some.

        ``begun`` are the session and its turn where that commit set one running: its first model call is made at once.
        """
        if self._stopping:
            return
        if session_db_id in self._tasks:
            self._again.add(session_db_id)
            return
        work = None if begun is None else self._work.first(*begun)
        task = asyncio.create_task(self._serve(session_db_id, work), name=f"codelab-session-{session_db_id}")
        self._tasks[session_db_id] = task

    async def resume_when_answered(self, tx: Transaction, turn: Row[Any]) -> None:
        """Let a waiting turn go on, or end, after this commit when no call of it is open any more."""
        if await self._transitions.resume_when_answered(tx, turn):
            tx.after_commit(lambda: self.wake(turn.session_db_id))

    async def interrupt(self, turn_id: str) -> None:
        """Stop the model call of a turn, if one is under way."""
        step = self._steps.get(turn_id)
        if step is not None:
            step.cancel()
            await asyncio.wait([step])

    async def stop(self) -> None:
        """Stop all model calls; their turns stay running in the database, free for the next process."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._caller.close()
        if tasks and self._database.ready:
            await self._leases.give_back()

    async def _serve(self, session_db_id: int, given: Work | None) -> None:
        delay = RETRY_FIRST
        try:
            while True:
                self._again.discard(session_db_id)
                try:
                    while work := given or await self._database.write(lambda tx: self._work.take(tx, session_db_id)):
                        given = None
                        await self._run_or_fail(work)
                        delay = RETRY_FIRST
                except Exception as error:
                    if is_unavailable(error):
                        logger.warning("a turn waits for the database: %s", type(error).__name__)
                    else:
                        logger.exception("a turn met an error and will be taken up again", extra={"retry_in": delay})
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RETRY_LONGEST)
                    continue
                # No await between this check and the removal: a wake that comes later starts a new task.
                if session_db_id not in self._again:
                    return
        finally:
            self._tasks.pop(session_db_id, None)

    async def _run_or_fail(self, work: Work) -> None:
        """Make one model call; an error that nobody expected ends the turn, since trying again would meet it again."""
        try:
            await self._run_step(work)
        except Exception as error:
            if is_unavailable(error):
                raise
            logger.exception("a turn failed in a way that nobody expected", extra={"turn_id": work.turn.id})
            sentence = "Something went wrong in the server; its log has the details."
            await self._fail(work.session.db_id, work.turn.id, "internal_error", sentence)

    async def _run_step(self, work: Work) -> None:
        """Make one model call in a task of its own, which a person's cancel can stop alone."""
        step = asyncio.create_task(self._step(work), name=f"codelab-step-{work.turn.id}")
        self._steps[work.turn.id] = step
        try:
            await asyncio.wait([step])
        except asyncio.CancelledError:
            step.cancel()
            await asyncio.wait([step])
            raise
        finally:
            self._steps.pop(work.turn.id, None)
        if not step.cancelled() and (error := step.exception()) is not None:
            raise error

    async def _step(self, work: Work) -> None:
        began, turn = time.monotonic(), work.turn
        session = await self._router.route(work.session, turn)
        agent = self._agents.find(session.current_agent)
        time_limit = asyncio.timeout(work.seconds)
        try:
            async with time_limit:
                request = await self._context.request(session, turn, agent)
                answer = await self._caller.answer(turn, agent, request)
        except ModelError as error:
            await self._fail(session.db_id, turn.id, error.code, error.message)
            return
        except TimeoutError:
            if not time_limit.expired():
                raise
            # The timer may go off early by its resolution. When the turn is taken again, a person is asked.
            await self._add_time(turn, max(time.monotonic() - began, work.seconds or 0))
            return
        self._context.learn(request, answer)
        seconds = time.monotonic() - began

        async def complete(tx: Transaction) -> None:
            current = await self._find_own(tx, session.db_id, turn.id)
            fresh = await sessions.find_by_key(tx.session, session.db_id)
            if current is not None and fresh is not None:
                await self._transitions.complete_answer(tx, fresh, current, answer, seconds)

        await self._database.write(complete)

    async def _add_time(self, turn: Row[Any], seconds: float) -> None:
        async def unit(tx: Transaction) -> None:
            current = await self._find_own(tx, turn.session_db_id, turn.id)
            if current is not None:
                await turns.set_fields(tx.session, current.db_id, worked_ms=add_seconds(current.worked_ms, seconds))

        await self._database.write(unit)

    async def _fail(self, session_db_id: int, turn_id: str, code: str, error: str) -> None:
        async def unit(tx: Transaction) -> None:
            turn = await self._find_own(tx, session_db_id, turn_id)
            if turn is not None:
                await self._transitions.fail(tx, turn, code, error)

        await self._database.write(unit)

    async def _find_own(self, tx: Transaction, session_db_id: int, turn_id: str) -> Row[Any] | None:
        return await find_own(tx, session_db_id, turn_id, self._leases.owner)
