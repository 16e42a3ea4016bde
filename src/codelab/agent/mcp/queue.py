"""The calls of MCP tools that wait to be made, and those that are made now."""

from __future__ import annotations

import asyncio

__all__ = ("CallQueue",)


class CallQueue:
    """Hand calls, by their keys, from the transactions that let them run to who makes them."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self.running: dict[int, asyncio.Task[None]] = {}

    def put(self, call_db_id: int) -> None:
        """Let a call be made."""
        self._waiting.put_nowait(call_db_id)

    async def get(self) -> int:
        """Wait for the next call."""
        return await self._waiting.get()

    def stop(self, call_db_id: int) -> None:
        """Stop a call that was cancelled, if it is made now."""
        if (task := self.running.get(call_db_id)) is not None:
            task.cancel()
