"""The whole application under a real uvicorn, in the test's own event loop, and people who talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import uvicorn

from codelab.app import create_app
from codelab.auth.repository.users import find_user, insert_user_if_absent
from codelab.connections import uvicorn_options
from codelab.db import new_id, now
from codelab.settings import AgentSettings, AuthSettings, ServerSettings, Settings
from tests.support.apps import living
from tests.support.auth import CHEAP, CLIENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from litestar import Litestar

    from tests.support.databases import DatabaseUrls

__all__ = ("ALL_SCOPES", "Event", "Person", "Running", "make_settings", "serving")

ALL_SCOPES = "api:read api:write approvals:decide"


@dataclass(frozen=True)
class Event:
    """One event as a client reads it from the stream."""

    seq: int
    type: str
    data: dict[str, Any]


@dataclass
class Person:
    """Somebody with an access token."""

    http: httpx2.AsyncClient
    id: str

    async def session(self, **body: Any) -> str:
        """Make a session and return its id."""
        answer = await self.http.post("/api/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def say(self, session: str, content: str, **body: Any) -> dict[str, Any]:
        """Send a message and return its acknowledgement."""
        answer = await self.http.post(f"/api/v1/sessions/{session}/messages", json={"content": content} | body)
        assert answer.status_code == 202, answer.text
        accepted: dict[str, Any] = answer.json()
        return accepted

    async def answer(self, session: str, call_id: str, **body: Any) -> httpx2.Response:
        """Answer a tool call."""
        return await self.http.post(f"/api/v1/sessions/{session}/tool-results", json={"call_id": call_id, **body})

    async def decide(self, session: str, approval_id: str, decision: str, **body: Any) -> httpx2.Response:
        """Decide an approval."""
        return await self.http.post(
            f"/api/v1/sessions/{session}/approvals/{approval_id}", json={"decision": decision, **body}
        )

    async def history(self, session: str) -> list[dict[str, Any]]:
        """Return all messages of a session."""
        messages: list[dict[str, Any]] = []
        params: dict[str, str] = {}
        while True:
            answer = await self.http.get(f"/api/v1/sessions/{session}/history", params=params)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            messages += page["messages"]
            if page["next_cursor"] is None:
                return messages
            params = {"cursor": page["next_cursor"]}

    async def events(
        self, session: str, until: Callable[[Event], bool], *, after: int | str = 0, timeout: float = 30
    ) -> list[Event]:
        """Follow the stream of a session until an event fits, and return all events up to it."""
        seen: list[Event] = []
        async with asyncio.timeout(timeout), self.following(session, after=after) as events:
            async for event in events:
                seen.append(event)
                if until(event):
                    return seen
        raise AssertionError(f"the stream ended after {[(e.seq, e.type) for e in seen]}")

    @asynccontextmanager
    async def following(
        self,
        session: str,
        *,
        after: int | str | None = None,
        last_event_id: int | str | None = None,
        client: str | None = None,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Open the stream of a session; iterate what it gives for its events."""
        given = {"after": after, "client": client}
        params = {name: str(value) for name, value in given.items() if value is not None}
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        url = f"/api/v1/sessions/{session}/events"
        async with self.http.sse(url, params=params, headers=headers, max_event_size=None) as source:
            yield (
                Event(int(event.id or 0), event.event, msgspec.json.decode(event.data))
                async for event in source
                if event.data
            )

    async def until(self, session: str, *types: str, after: int | str = 0, turn: str | None = None) -> list[Event]:
        """Follow until an event of one of these types, of this turn where one is named."""
        return await self.events(
            session,
            lambda event: event.type in types and (turn is None or event.data.get("turn_id") == turn),
            after=after,
        )


@dataclass
class Running:
    """A server that runs, and its address."""

    app: Litestar
    url: str
    http: httpx2.AsyncClient
    _people: list[httpx2.AsyncClient] = field(default_factory=list)

    async def person(self, name: str = "ada", scope: str = ALL_SCOPES, *, lifetime: int = 600) -> Person:
        """Make a user unless there is one of that name, and a client with a token of theirs, valid so many seconds."""
        auth = self.app.state.auth
        at = now()
        values: dict[str, Any] = {
            "id": new_id(),
            "username": name,
            "email": f"{name}@example.com",
            "password_hash": "none",
            "is_active": True,
            "is_verified": True,
            "created_at": at,
            "updated_at": at,
        }

        await auth.database.write(lambda tx: insert_user_if_absent(tx.session, **values))
        async with auth.database.read() as db:
            user = await find_user(db, name)
        assert user is not None
        token = auth._tokens.issue(user_id=user.id, client_id=CLIENT, scope=scope, lifetime=lifetime)
        http = httpx2.AsyncClient(
            base_url=self.url,
            verify=False,  # no TLS here: to read the certificates of the system takes 20 ms
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        )
        self._people.append(http)
        return Person(http, user.id)


def make_settings(databases: DatabaseUrls, folder: Path, **agent: Any) -> Settings:
    """Make settings for a test; ``agent`` are members of ``AgentSettings``.

    Keywords route unless a test wants a model to: most of them script every call to it.
    """
    return Settings(
        agent=replace(AgentSettings(db_url=databases.agent, routing="keywords"), **agent),
        auth=AuthSettings(
            db_url=databases.auth, key_encryption_key_file=folder / "auth.key", master_key="correct horse battery"
        ),
        server=ServerSettings(db_wait=5),
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals belong to pytest


@asynccontextmanager
async def serving(settings: Settings, *, local_secret: str | None = None) -> AsyncIterator[Running]:
    """Serve the application on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(settings, issuer=url, local_secret=local_secret)
        app.state.auth._passwords._hasher = CHEAP
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, timeout_graceful_shutdown=2, **uvicorn_options(app)
        )
        server = _Server(config)
        async with living(app):
            task = asyncio.create_task(server.serve(sockets=[listener]))
            async with httpx2.AsyncClient(base_url=url, verify=False, timeout=30) as http:
                running = Running(app, url, http)
                try:
                    yield running
                finally:
                    for client in running._people:
                        await client.aclose()
                    app.state.agent.end_streams()
                    server.should_exit = True
                    await task
