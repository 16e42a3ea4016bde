"""When servers are asked for their tools: behind the model calls, which wait for an answer no longer than a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from codelab.db.faults import is_unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ("MOMENT", "REFRESH", "Listings")

logger = logging.getLogger(__name__)

#: Seconds that a model call waits at most for servers to tell their tools.
MOMENT = 2.0
#: Seconds for which a list of tools is taken for true; after failures it is twice that, and so on up to the longest.
REFRESH, LONGEST = 15.0, 300.0


class _Asked(NamedTuple):
    due: float
    failures: int


class Listings:
    """Ask servers, by their keys, each in a task of its own that goes on when nobody waits for it any more."""

    def __init__(self) -> None:
        #: When (monotonic seconds) a server is to be asked again, and how often it failed since it answered.
        self._asked: dict[str, _Asked] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._swept = 0.0
        self._closed = False

    async def bring_up(self, asks: Mapping[str, Callable[[], Awaitable[bool]]]) -> None:
        """Ask those servers that are due; return when they answered, or after a moment.

        Each tells whether its server answered. For one that is asked already nobody waits again.
        """
        at = time.monotonic()
        self._sweep(at)
        begun = [self._begin(key, ask) for key, ask in asks.items() if self._is_due(key, at)]
        if begun:
            await asyncio.wait(begun, timeout=MOMENT)

    def forget(self) -> None:
        """Take every server for one that is due."""
        self._asked.clear()

    async def close(self) -> None:
        """Ask nobody any more."""
        self._closed = True
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_due(self, key: str, at: float) -> bool:
        asked = self._asked.get(key)
        return not self._closed and key not in self._under_way and (asked is None or at >= asked.due)

    def _begin(self, key: str, ask: Callable[[], Awaitable[bool]]) -> asyncio.Task[None]:
        asked = self._asked.get(key)
        failures = 0 if asked is None else asked.failures
        task = self._under_way[key] = asyncio.create_task(self._ask(key, ask, failures), name="codelab-mcp-listing")
        return task

    async def _ask(self, key: str, ask: Callable[[], Awaitable[bool]], failures: int) -> None:
        answered = False
        try:
            answered = await ask()
        except Exception as error:
            if is_unavailable(error):
                logger.warning("the tools of an MCP server wait for the database: %s", type(error).__name__)
            else:
                logger.exception("listing the tools of an MCP server failed in a way that nobody expected")
        finally:
            failures = 0 if answered else failures + 1
            pause = min(REFRESH * 2 ** min(failures, 10), LONGEST)
            self._asked[key] = _Asked(time.monotonic() + pause, failures)
            del self._under_way[key]

    def _sweep(self, at: float) -> None:
        """Forget servers that nobody asked about for long: their sessions rest, or they are gone."""
        if at - self._swept >= LONGEST:
            self._swept = at
            self._asked = {key: asked for key, asked in self._asked.items() if at - asked.due < LONGEST}
