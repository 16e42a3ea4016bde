"""What a module does by itself, again and again, while it serves."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from codelab.db.faults import is_unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("Job", "Jobs")

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """Do ``work`` every so many seconds, counted from its end; ``first`` is the time until the first, if another."""

    name: str
    seconds: float
    work: Callable[[], Awaitable[None]]
    first: float | None = None


class Jobs:
    """Run jobs, each in a task of its own; one that fails is tried again when its time comes."""

    def __init__(self, *jobs: Job) -> None:
        self._jobs = jobs
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all jobs; each waits for its time first."""
        self._tasks = [asyncio.create_task(self._run(job), name=f"codelab-{job.name}") for job in self._jobs]

    async def stop(self) -> None:
        """Stop all jobs where they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _run(job: Job) -> None:
        delay = job.seconds if job.first is None else job.first
        while True:
            await asyncio.sleep(delay)
            delay = job.seconds
            try:
                await job.work()
            except Exception as error:
                if is_unavailable(error):
                    logger.warning("the job %s waits for the database: %s", job.name, type(error).__name__)
                else:
                    logger.exception("the job %s failed", job.name)
