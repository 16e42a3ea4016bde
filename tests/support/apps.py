"""Applications that live inside a test's own event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar import Litestar

__all__ = ("living", "talking")


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[None]:
    """Start an application and stop it, both in one task.

    Its cancel scopes must end in the task that began them, and pytest-asyncio ends a fixture in another one.
    """
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set_result(None)
            await stop.wait()

    task = asyncio.create_task(live())
    await asyncio.wait((started, task), return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        started.cancel()
        await task
    try:
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def talking(app: Litestar) -> AsyncIterator[httpx2.AsyncClient]:
    """Start an application and give an HTTP client that calls it in process (it cannot read streams)."""
    transport = httpx2.ASGITransport(cast("Any", app))  # the two libraries type ASGI in their own ways
    async with living(app), httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        yield http
