"""Read one batch of rows while the one before it is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from codelab.storage.values import Batch

__all__ = ("ahead",)


async def ahead(batches: AsyncGenerator[Batch]) -> AsyncGenerator[Batch]:
    """Give the same batches, the next of which is made meanwhile; no more than one waits. Closes ``batches``."""

    async def following() -> Batch | None:
        return await anext(batches, None)

    task = asyncio.create_task(following())
    try:
        while (batch := await task) is not None:
            task = asyncio.create_task(following())
            yield batch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await batches.aclose()
