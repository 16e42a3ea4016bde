"""A client of the reference system: its frames over its WebSocket, and nothing of ours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from websockets.asyncio.client import ClientConnection

    from tests.support.server import Person

__all__ = ("MEMBERS", "Talk", "final", "is_call", "is_final", "open_socket", "talking")

#: The ten members of every chunk, in the reference's order.
MEMBERS = [
    "type",
    "content",
    "token",
    "is_final",
    "call_id",
    "tool_name",
    "arguments",
    "requires_approval",
    "error",
    "metadata",
]
DEADLINE = 60


def is_final(chunk: dict[str, Any]) -> bool:
    """Tell whether the reference's benchmark and terminal clients would stop here."""
    return chunk["type"] in {"assistant_message", "error"} and chunk["is_final"] is True


def is_call(chunk: dict[str, Any]) -> bool:
    """Tell whether a chunk asks for a tool."""
    return bool(chunk["type"] == "tool_call")


def final(text: str) -> dict[str, Any]:
    """Return the one chunk that a whole answer is."""
    said = {"type": "assistant_message", "content": text, "token": text, "is_final": True, "requires_approval": False}
    return dict.fromkeys(MEMBERS) | said


@dataclass
class Talk:
    """One open WebSocket, and every chunk that came over it."""

    connection: ClientConnection
    chunks: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, kind: str, **members: Any) -> None:
        """Send a message."""
        await self.connection.send(msgspec.json.encode({"type": kind, **members}).decode())

    async def read(self) -> dict[str, Any]:
        """Read one chunk; each has the ten members first, and no token is null in a message."""
        async with asyncio.timeout(DEADLINE):
            chunk: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
        assert list(chunk)[:10] == MEMBERS
        assert chunk["type"] != "assistant_message" or isinstance(chunk["token"], str)
        assert chunk["type"] != "error" or chunk["content"] == chunk["error"]
        self.chunks.append(chunk)
        return chunk

    async def until(self, fits: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Read until a chunk fits; return those read now."""
        first = len(self.chunks)
        while not fits(await self.read()):
            pass
        return self.chunks[first:]

    async def say(self, content: str, **members: Any) -> None:
        """Send a user's message as the reference's clients do."""
        await self.send("user_message", content=content, role="user", **members)


@asynccontextmanager
async def open_socket(
    base_url: str, path: str, headers: Mapping[str, str], *, subprotocols: Any = None
) -> AsyncIterator[Talk]:
    """Open a WebSocket at a path; raises ``websockets.exceptions.InvalidStatus`` where it is refused."""
    url = base_url.replace("http://", "ws://", 1).rstrip("/") + path
    async with connect(
        url, additional_headers=headers, subprotocols=subprotocols, max_size=None, max_queue=None, proxy=None
    ) as connection:
        yield Talk(connection)


@asynccontextmanager
async def talking(person: Person, session: str, *, prefix: str = "/api/v1", query: str = "") -> AsyncIterator[Talk]:
    """Open the reference's WebSocket of a session as a person."""
    headers = {"Authorization": person.http.headers["Authorization"]}
    async with open_socket(str(person.http.base_url), f"{prefix}/ws/{session}{query}", headers) as talk:
        yield talk
