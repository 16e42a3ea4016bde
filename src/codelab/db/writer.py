"""One writer that groups commits.

Units of work wait in a line; the writer takes all that wait, runs them in one transaction, commits, and only then
answers each. So "commit, then tell" falls out of the structure, SQLite never sees two writers of this process, and the
cost of a durable commit is shared. A unit that fails sends its batch back to be run one by one, so nobody pays for
another's error.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from codelab.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

__all__ = ("Transaction", "Writer", "before_commit")

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BATCH = 256
#: Where a session of the writer keeps what is to be written right before its commit.
_LAST = "codelab.last"


class Transaction:
    """What a unit of work is given: the session to write with, and a place for what to do once it is committed.

    A unit may run twice (when another unit of its batch failed), so it changes nothing but the database.
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
        RuntimeError: the session is not one of a writer, and nobody would write the list.
    """
    last: dict[Hashable, tuple[Any, list[Any]]] | None = session.info.get(_LAST)
    if last is None:
        raise RuntimeError("the session of a unit of work is needed")
    return last.setdefault(owner, (write, []))[1]


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

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
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
        committing = False
        ran: list[tuple[_Job, Transaction, Any]] = []
        try:
            async with self._sessions() as session:
                last: dict[Hashable, tuple[Any, list[Any]]] = session.info.setdefault(_LAST, {})
                for job in batch:
                    if not job.future.done():  # else its caller left while the units before it ran
                        transaction = Transaction(session)
                        ran.append((job, transaction, await job.unit(transaction)))
                for write, items in last.values():
                    await write(session, items)
                await session.flush()  # what cannot be written is the unit's fault, not the commit's
                committing = True
                await session.commit()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            # Not an answer of the database but, say, a time-out: a batch that may have been kept must not run again.
            if committing and (lost or not isinstance(error, DBAPIError)):
                unknown = Unavailable("The database went away during a commit; whether it was kept is unknown.")
                for job in batch:
                    job.fail(unknown)
                return True
            if len(batch) > 1 or (lost and not alone):
                return False
            batch[0].fail(error)
            return True
        for job, transaction, result in ran:
            transaction.committed()
            job.answer(result)
        return True


def _is_cancelled() -> bool:
    """Tell whether the writer itself is to end, rather than a unit that awaited something cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
