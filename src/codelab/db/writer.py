"""One writer that groups commits.

Units of work wait in a line; the writer takes all that wait, runs them in one transaction, commits, and only then
answers each. So "commit, then tell" falls out of the structure, SQLite never sees two writers of this process, and the
cost of a durable commit is shared. A unit that fails sends its batch back to be run one by one, so nobody pays for
another's error.

The units of a batch run as one piece of synchronous work on the event loop, so that their statements cost no switch
between tasks or threads: with SQLite they call the library at once, with PostgreSQL they share one greenlet. What may
take long waits elsewhere: BEGIN for the lock and COMMIT for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.exc import DBAPIError

from codelab.db.session import InlineSession
from codelab.db.sqlite_driver import run_inline
from codelab.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Hashable

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ("Transaction", "Writer", "before_commit", "expect_last", "write_last")

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 256
#: Units that run without letting anybody else have the event loop.
SLICE = 16
#: Where a session of a unit keeps what is to be written right before its commit.
_LAST = "codelab.last"


class Transaction:
    """What a unit of work is given: the session to write with, and a place for what to do once it is committed.

    A unit may run twice (when another unit of its batch failed), so it changes nothing but the database, and it
    awaits nothing else: the whole batch waits for it.
    """

    __slots__ = ("_callbacks", "session")

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self._callbacks: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this right after the commit, in the order of the log; never when the unit failed."""
        self._callbacks.append(callback)

    def committed(self) -> None:
        """Run the callbacks; called by the writer only."""
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback after commit failed")


def before_commit(
    session: AsyncSession, owner: Hashable, write: Callable[[AsyncSession, list[Any]], Awaitable[None]]
) -> list[Any]:
    """Return the list of what ``owner`` wants to write last in a unit's transaction, together for all its units.

    ``write`` is given the session and the list. So a row that everybody has to lock is locked once, and not for long.

    Raises:
        RuntimeError: the session is not one of a unit of work, and nobody would write the list.
    """
    last: dict[Hashable, tuple[Any, list[Any]]] | None = session.info.get(_LAST)
    if last is None:
        raise RuntimeError("the session of a unit of work is needed")
    return last.setdefault(owner, (write, []))[1]


def expect_last(session: AsyncSession) -> None:
    """Let units that are given this session use ``before_commit``; ``write_last`` must follow them."""
    session.info[_LAST] = {}


async def write_last(session: AsyncSession) -> None:
    """Write what units put off to the end of their transaction."""
    for write, items in session.info[_LAST].values():
        await write(session, items)


class _Job:
    __slots__ = ("future", "unit")

    def __init__(self, unit: Callable[[Transaction], Awaitable[Any]], future: asyncio.Future[Any]) -> None:
        self.unit = unit
        self.future = future

    def answer(self, result: Any) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Writer:
    """Run units of work, grouped into transactions, in the order in which they came."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        #: Called after a commit whose outcome is unknown: the database may hold what nobody was told of.
        self.when_unknown: list[Callable[[], None]] = []
        self._connection: AsyncConnection | None = None
        self._waiting: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Start taking units."""
        self._stopping = False
        self._task = asyncio.create_task(self._serve(), name="codelab-writer")

    async def stop(self) -> None:
        """Finish the units that wait, then stop; later ones are refused."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await self._leave()

    async def run(self, unit: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run the unit in a transaction and return its result once it is committed.

        Raises whatever the unit raises (then nothing of it is kept), or ``Unavailable`` when the database does not
        answer; after a connection lost during COMMIT the outcome is unknown and the message says so.
        """
        if self._stopping or self._task is None:
            raise Unavailable("The server is stopping.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(unit, future))
        self._wake.set()
        return await future

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch: list[_Job] = []
                while self._waiting and len(batch) < MAX_BATCH:
                    job = self._waiting.popleft()
                    if not job.future.cancelled():
                        batch.append(job)
                if batch:
                    await self._run_batch(batch)
            if self._stopping:
                return

    async def _run_batch(self, batch: list[_Job]) -> None:
        if len(batch) > 1 and await self._attempt(batch, alone=False):
            return
        for job in batch:
            if not job.future.done():
                # A connection that was lost before COMMIT changed nothing: try once more on a fresh one.
                await self._attempt([job], alone=False) or await self._attempt([job], alone=True)

    async def _attempt(self, batch: list[_Job], *, alone: bool) -> bool:
        """Run a batch in one transaction; False when it should be tried again in smaller parts."""
        outcome = await self._work(batch)
        error = outcome.error
        if error is not None:
            await self._leave()
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            # Not an answer of the database but, say, a time-out: a batch that may have been kept must not run again.
            if outcome.committing and (lost or not isinstance(error, DBAPIError)):
                unknown = Unavailable("The database went away during a commit; whether it was kept is unknown.")
                for job in batch:
                    job.fail(unknown)
                for tell in self.when_unknown:
                    tell()
                return True
            if outcome.begun and (len(batch) > 1 or (lost and not alone)):
                return False
            # Where no transaction could be begun, to try for one after the other would only let the last wait longest.
            for job in batch:
                job.fail(error)
            return True
        for job, transaction, result in outcome.ran:
            transaction.committed()
            job.answer(result)
        return True

    async def _work(self, batch: list[_Job]) -> _Outcome:
        """Run a batch on the writer's own connection, which is kept from batch to batch."""
        outcome = _Outcome()
        try:
            if self._connection is None:
                self._connection = await self._engine.connect()
            connection = self._connection
            transaction = await connection.begin()
            outcome.begun = True
            info: dict[Any, Any] = {_LAST: {}}
            for first in range(0, len(batch), SLICE):
                await _run_on(connection, partial(_run, batch[first : first + SLICE], outcome.ran, info))
                await asyncio.sleep(0)  # let the others have the loop between two slices
            if info[_LAST]:
                await _run_on(connection, partial(_run_last, info))
            outcome.committing = True
            await transaction.commit()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            outcome.error = error
        return outcome

    async def _leave(self) -> None:
        """Give the connection back to the pool, which knows whether it is still good."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()


class _Outcome:
    """What became of a batch: the result of each unit, or the error that ended it, perhaps during the commit."""

    __slots__ = ("begun", "committing", "error", "ran")

    def __init__(self) -> None:
        self.ran: list[tuple[_Job, Transaction, Any]] = []
        self.error: BaseException | None = None
        self.begun = self.committing = False


async def _run_on(connection: AsyncConnection, function: Callable[[Connection], None]) -> None:
    if connection.dialect.name == "sqlite":
        await run_inline(connection, function)
    else:
        await connection.run_sync(function)


def _run(
    batch: list[_Job], ran: list[tuple[_Job, Transaction, Any]], info: dict[Any, Any], connection: Connection
) -> None:
    session = cast("AsyncSession", InlineSession(connection, info))
    for job in batch:
        if not job.future.done():  # else its caller left while the units before it ran
            transaction = Transaction(session)
            ran.append((job, transaction, _drive(job.unit(transaction))))


def _run_last(info: dict[Any, Any], connection: Connection) -> None:
    _drive(write_last(cast("AsyncSession", InlineSession(connection, info))))


def _drive(unit: Awaitable[T]) -> T:
    """Run a unit to its end at once: what it awaits is a statement that has run when it is awaited."""
    steps = cast("Generator[Any, None, T]", unit.__await__())
    try:
        next(steps)
    except StopIteration as stop:
        return cast("T", stop.value)
    steps.close()
    raise RuntimeError("A unit of work awaited something else than its transaction.")


def _is_cancelled() -> bool:
    """Tell whether the writer itself is to end, rather than a unit that raised this error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
