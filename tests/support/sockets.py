"""A person's WebSocket: frames in, replies and events out."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.asyncio.client import connect

from tests.support.server import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from websockets.asyncio.client import ClientConnection

    from tests.support.server import Person

__all__ = ("Socket", "socket_of")

DEADLINE = 30


@dataclass
class Socket:
    """One open WebSocket to a session."""

    connection: ClientConnection
    events: list[Event] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0

    async def read(self) -> dict[str, Any]:
        """Read one frame and keep it with its like."""
        frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
        if "reply_to" in frame:
            self.replies.append(frame)
        else:
            assert set(frame) == {"seq", "type", "data", "created_at"}
            self.events.append(Event(frame["seq"], frame["type"], frame["data"]))
        return frame

    async def ask(self, kind: str, **members: Any) -> dict[str, Any]:
        """Send a command and return the reply that carries its id."""
        self._number += 1
        frame_id = f"c{self._number}"
        return await self.ask_raw(msgspec.json.encode({"type": kind, "id": frame_id, **members}).decode(), frame_id)

    async def ask_raw(self, text: str | bytes, frame_id: str | None = None) -> dict[str, Any]:
        """Send a frame as it is and return the reply."""
        await self.connection.send(text)
        async with asyncio.timeout(DEADLINE):
            while (frame := await self.read()).get("reply_to", "no") != frame_id:
                pass
        return frame

    async def until(self, fits: Callable[[Event], bool]) -> list[Event]:
        """Read until an event fits; return all events so far."""
        async with asyncio.timeout(DEADLINE):
            while not any(map(fits, self.events)):
                await self.read()
        return self.events

    async def closed(self) -> tuple[int, str]:
        """Read to the end; return the close code and its reason."""
        from websockets.exceptions import ConnectionClosed

        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await self.read()
                except ConnectionClosed:
                    return self.connection.close_code or 0, self.connection.close_reason or ""


@asynccontextmanager
async def socket_of(person: Person, session: str, **params: Any) -> AsyncIterator[Socket]:
    """Open the WebSocket of a session; raises ``websockets.exceptions.InvalidStatus`` where it is refused."""
    query = "&".join(f"{name}={value}" for name, value in params.items())
    base = str(person.http.base_url).replace("http://", "ws://", 1).rstrip("/")
    url = f"{base}/api/v1/sessions/{session}/stream" + (f"?{query}" if query else "")
    headers = {"Authorization": person.http.headers.get("Authorization", "")} if person.http.headers else {}
    # Without a limit to its queue: a full one keeps the client from reading the answer to its own close.
    async with connect(url, additional_headers=headers, max_size=None, max_queue=None, proxy=None) as connection:
        yield Socket(connection)
