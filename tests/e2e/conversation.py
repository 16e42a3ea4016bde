"""A client that talks while its server comes and goes, and keeps every promise that it was given.

``Line`` is the way to the server: a command that got no answer is sent again with the same key, as ``docs/api.md``
tells clients to do. ``Talk`` is one session: what was acknowledged, and every event that was seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2

from tests.support.server import Event, Person

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from tests.support.process import ServerProcess

    Play: TypeAlias = Callable[["Talk"], Awaitable[None]]

__all__ = ("END", "Line", "Promise", "Talk", "conversing")

END = ("turn.completed", "turn.failed", "turn.cancelled")
#: Seconds until somebody who was not served tries again.
PAUSE = 0.05
#: Seconds without any event after which something is stuck.
SILENCE = 60.0
#: Seconds that a person thinks at most, so that what waits for them does wait.
THOUGHT = 0.15


class Line:
    """The way to a server that comes and goes."""

    def __init__(self) -> None:
        self.ending = False
        #: Commands whose answer was swallowed, answers that were kept from an earlier try, refusals by what they say.
        self.unanswered = self.replayed = 0
        self.refusals: Counter[str] = Counter()
        self._events = 0
        self._heard = asyncio.Event()
        self._http: httpx2.AsyncClient | None = None
        self._up = asyncio.Event()
        self._clients = contextlib.AsyncExitStack()

    async def connect(self, server: ServerProcess) -> Person:
        """Log in to a server that is there now; everybody goes on."""
        self._http = await self._clients.enter_async_context(server.login())
        self._up.set()
        return Person(self._http, "admin")

    def cut(self) -> None:
        """Let everybody wait for the next server."""
        self._up.clear()

    def hear(self) -> None:
        """Count an event that was seen on some stream."""
        self._events += 1
        self._heard.set()

    async def events(self, count: int) -> None:
        """Wait until so many more events were seen on all streams together; times out when none comes any more."""
        until = self._events + count
        while self._events < until:
            self._heard.clear()
            async with asyncio.timeout(SILENCE):
                await self._heard.wait()

    async def close(self) -> None:
        """Close what was opened."""
        await self._clients.aclose()

    async def person(self) -> Person:
        """Wait for a server."""
        await self._up.wait()
        assert self._http is not None
        return Person(self._http, "admin")

    async def post(self, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Send a command until it is answered, always with the same key."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        while True:
            person = await self.person()
            try:
                answer = await person.http.post(f"/api/v1/sessions{path}", json=body, headers=headers)
            except httpx2.TransportError:
                self.unanswered += 1
                await asyncio.sleep(PAUSE)
                continue
            if answer.status_code == 503:
                await self._take_refusal(answer)
                continue
            assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
            self.replayed += "idempotent-replayed" in answer.headers
            taken: dict[str, Any] = answer.json()
            return taken

    async def _take_refusal(self, answer: httpx2.Response) -> None:
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
        self.refusals[answer.json()["detail"]] += 1
        await asyncio.sleep(PAUSE)


@dataclass(frozen=True)
class Promise:
    """A command that was acknowledged: what was sent, and what the answer said."""

    command: str
    sent: dict[str, Any]
    answer: dict[str, Any]


@dataclass(eq=False)
class Talk:
    """One session as its client knows it."""

    line: Line
    chance: random.Random
    session: str = field(default_factory=lambda: uuid4().hex)
    client: str = field(default_factory=lambda: uuid4().hex)
    promises: list[Promise] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Make the session."""
        await self.line.post("", {"session_id": self.session, "agent": "coder"})

    async def say(self, content: str, delivery: str = "queue", *, key: str | None = None) -> dict[str, Any]:
        """Send a message."""
        return await self._send("say", "/messages", {"content": content, "delivery": delivery}, key)

    async def claim(self, call_id: str, *, key: str | None = None) -> dict[str, Any]:
        """Claim a tool call."""
        return await self._send("claim", f"/tool-calls/{call_id}/claim", {"client_id": self.client}, key)

    async def answer(self, call_id: str, result: Any, *, key: str | None = None) -> dict[str, Any]:
        """Answer a tool call."""
        sent = {"call_id": call_id, "result": result, "client_id": self.client}
        return await self._send("answer", "/tool-results", sent, key)

    async def decide(self, approval_id: str, *, key: str | None = None, **decision: Any) -> dict[str, Any]:
        """Decide an approval."""
        return await self._send("decide", f"/approvals/{approval_id}", decision, key)

    async def cancel(self, *, key: str | None = None) -> dict[str, Any]:
        """Cancel the active turn."""
        return await self._send("cancel", "/cancel", {}, key)

    async def _send(self, command: str, path: str, sent: dict[str, Any], key: str | None) -> dict[str, Any]:
        answer = await self.line.post(f"/{self.session}{path}", sent, key)
        self.promises.append(Promise(command, sent, answer))
        return answer

    async def think(self) -> None:
        """Let a moment pass, as people and tools do."""
        await asyncio.sleep(self.chance.uniform(0, THOUGHT))

    async def until(self, *types: str, turn: str, after: int = 0) -> Event:
        """Return the first event of these types of a turn, when it was seen."""
        checked = after
        while True:
            for event in self.seen[checked:]:
                if event.type in types and event.data["turn_id"] == turn:
                    return event
            checked = len(self.seen)
            self._more.clear()
            await self._more.wait()

    async def follow(self) -> None:
        """Read the event stream for ever, after each loss from the cursor on."""
        while True:
            person = await self.line.person()
            with contextlib.suppress(httpx2.TransportError):  # lost, or not to be had now
                async with person.following(self.session, after=len(self.seen), client=self.client) as events:
                    async for event in events:
                        self._see(event)
            await asyncio.sleep(PAUSE)

    def _see(self, event: Event) -> None:
        if event.type == "stream.end":
            return
        assert event.seq == len(self.seen) + 1, f"{self.session}: after {len(self.seen)} came {event.seq}"
        self.seen.append(event)
        self._more.set()
        self.line.hear()

    async def perform(self, play: Play) -> None:
        """Do the same again and again, to the end of the one that is under way when the conversation ends."""
        await self.open()
        while not self.line.ending:
            await play(self)


@contextlib.asynccontextmanager
async def conversing(line: Line, plays: dict[Talk, Play]) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """Let each talk follow its session and perform, until what this gives is called: then all come to their end.

    It is called with the seconds that this may take. What goes wrong in one of them ends the block.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(line.close)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        following = [tasks.create_task(talk.follow()) for talk in plays]
        performing = {tasks.create_task(talk.perform(play)): talk for talk, play in plays.items()}

        async def finish(patience: float) -> None:
            line.ending = True
            _, stuck = await asyncio.wait(performing, timeout=patience)
            last = {plays[talk].__name__: talk.seen[-2:] for talk in (performing[task] for task in stuck)}
            assert not stuck, f"nothing comes any more after {last}"
            for task in following:
                task.cancel()

        yield finish
