from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from codelab.connections import Watch

if TYPE_CHECKING:
    from collections.abc import Callable


def _scope(abort: Callable[[], None]) -> Any:
    return {"type": "websocket", "extensions": {"codelab.abort": abort}}


async def test_a_piece_that_is_not_accepted_ends_the_connection_whoever_else_sends() -> None:
    """Two tasks send on one socket; that a piece of one was accepted does not free the other."""
    aborted = asyncio.Event()
    watch = Watch(_scope(aborted.set), 0.05)
    stuck = asyncio.create_task(watch.over(asyncio.Event().wait()))  # type: ignore[arg-type]  # its result is nobody's
    await asyncio.sleep(0)

    await watch.over(asyncio.sleep(0))

    async with asyncio.timeout(30):
        await aborted.wait()
    stuck.cancel()
    watch.stop()
