"""How streams end, on both faces: at once, with the reason, and never with a hole."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import pytest

from codelab.agent import subscription as subscription_module
from codelab.agent.socket import CLOSE_CODES
from codelab.agent.stream import ENDS
from codelab.agent.subscription import End
from tests.agent.transcripts import END
from tests.agent.witness import Witness
from tests.support.server import Event, Person
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Running

FACES = ("sse", "websocket")


@dataclass
class Ended:
    """What a reader got, and why it ended."""

    events: list[Event]
    reason: End


async def read_to_the_end(person: Person, session: str, face: str, *, opened: asyncio.Event) -> Ended:
    """Follow a session from its beginning until the server ends it."""
    if face == "sse":
        seen: list[Event] = []
        async with person.following(session) as events:
            opened.set()
            seen += [event async for event in events]
        last = seen.pop()
        assert last.type == "stream.end", "the stream must say why it ends"
        reason = End(last.data["reason"])
        assert last == Event(len(seen), "stream.end", {"reason": reason.value, "detail": ENDS[reason]})
        return Ended(seen, reason)
    async with socket_of(person, session) as socket:
        opened.set()
        code, text = await socket.closed()
    reason = next(end for end, its_code in CLOSE_CODES.items() if its_code == code)
    assert text == ENDS[reason]
    return Ended(socket.events, reason)


async def follow_both(person: Person, session: str) -> list[asyncio.Task[Ended]]:
    """Follow a session on both faces; return when both are open."""
    tasks, opened = [], [asyncio.Event() for _ in FACES]
    for face, event in zip(FACES, opened, strict=True):
        tasks.append(asyncio.create_task(read_to_the_end(person, session, face, opened=event)))
    async with asyncio.timeout(30):
        await asyncio.gather(*(event.wait() for event in opened))
    return tasks


async def ends(tasks: list[asyncio.Task[Ended]]) -> list[Ended]:
    """Wait for both readers to end."""
    async with asyncio.timeout(30):
        return await asyncio.gather(*tasks)


async def test_a_deleted_session(ada: Person) -> None:
    """Everything that was committed, also the last words of the running turn, then the end."""
    session = await ada.session(agent="ask")
    await ada.say(session, "count to 3")
    whole = await ada.until(session, *END)
    readers = await follow_both(ada, session)
    await ada.http.delete(f"/api/v1/sessions/{session}")

    assert await ends(readers) == [Ended(whole, End.DELETED)] * 2


async def test_a_server_that_stops(running: Running, ada: Person) -> None:
    """The reader is told to come back."""
    session = await ada.session(agent="ask")
    readers = await follow_both(ada, session)
    running.app.state.agent.end_streams()

    assert await ends(readers) == [Ended([], End.STOPPING)] * 2


async def test_a_token_that_expires(running: Running, ada: Person) -> None:
    """The streams that it opened end with it; those of another token of the same person go on."""
    session = await ada.session(agent="ask")
    short = await running.person(lifetime=3)
    staying = await follow_both(ada, session)
    readers = await follow_both(short, session)
    assert await ends(readers) == [Ended([], End.EXPIRED)] * 2
    refused = await short.http.get(f"/api/v1/sessions/{session}")

    assert refused.status_code == 401
    assert not any(task.done() for task in staying)
    await ada.http.delete(f"/api/v1/sessions/{session}")
    await ends(staying)


async def test_a_user_who_is_disabled_by_another_process(running: Running, ada: Person, migrated: DatabaseUrls) -> None:
    """All streams of the person end, and nobody else's; what is said afterwards reaches none of them."""
    session = await ada.session(agent="ask")
    bob = await running.person("bob")
    others = await bob.session(agent="ask")
    staying = await follow_both(bob, others)
    readers = await follow_both(ada, session)
    async with Witness.at_url(migrated.auth) as witness:
        await witness.change("UPDATE users SET is_active = false WHERE username = 'ada'")

    assert await ends(readers) == [Ended([], End.REVOKED)] * 2
    assert not any(task.done() for task in staying)
    await bob.http.delete(f"/api/v1/sessions/{others}")
    assert [ended.reason for ended in await ends(staying)] == [End.DELETED] * 2


async def test_a_login_that_is_revoked(running: Running) -> None:
    """The streams of its tokens end, also those opened with an older access token; another login's go on."""
    form = {"grant_type": "password", "client_id": "codelab-flutter-app", "username": "admin"}
    form["password"] = "correct horse battery"
    async with httpx2.AsyncClient(base_url=running.url) as http:
        ending, other = [(await http.post("/oauth/token", data=form)).json() for _ in range(2)]
        person, stranger = [
            Person(
                httpx2.AsyncClient(
                    base_url=running.url, headers={"Authorization": f"Bearer {body['access_token']}"}, timeout=30
                ),
                "admin",
            )
            for body in (ending, other)
        ]
        async with person.http, stranger.http:
            session = await person.session(agent="ask")
            readers, staying = await follow_both(person, session), await follow_both(stranger, session)
            revoked = {"client_id": "codelab-flutter-app", "token": ending["refresh_token"]}
            assert (await http.post("/oauth/revoke", data=revoked)).status_code == 200
            assert (await person.http.get(f"/api/v1/sessions/{session}")).status_code == 401
            assert await ends(readers) == [Ended([], End.REVOKED)] * 2
            assert not any(task.done() for task in staying)
            await stranger.http.delete(f"/api/v1/sessions/{session}")
            await ends(staying)


@pytest.mark.parametrize("face", FACES)
async def test_a_client_that_does_not_read_is_disconnected(
    face: str, start: Callable[..., Awaitable[Running]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server drops its connection although what was sent before still waits, and its cursor brings the rest."""
    monkeypatch.setattr(subscription_module, "BACKLOG", 8)
    running = await start(send_timeout=0.2)
    ada = await running.person()
    session = await ada.session(agent="ask")
    log, database = running.app.state.agent.log, running.app.state.agent.database
    stuck = await _open_and_never_read(ada, session, face)
    try:
        async with asyncio.timeout(30):
            while not log.readers:
                await asyncio.sleep(0.01)
        (key,) = log._subscriptions
        text = "x" * 500_000
        newest = 0
        async with asyncio.timeout(60):
            while log.readers:
                deltas = [("message.delta", {"message_id": "m", "offset": n, "text": text}) for n in range(4)]
                newest = await database.write(lambda tx, new=deltas: log.append(tx, key, *new))
        async with asyncio.timeout(30):
            await asyncio.to_thread(_read_to_the_end, stuck)
    finally:
        stuck.close()
    events = await ada.events(session, lambda event: event.seq == newest)

    assert [event.seq for event in events] == list(range(1, newest + 1))


def _read_to_the_end(connection: sockets.socket) -> None:
    connection.settimeout(25)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 20):
            pass


async def _open_and_never_read(person: Person, session: str, face: str) -> sockets.socket:
    """Ask for a stream over a connection whose buffers are small, and leave it there."""
    url = httpx2.URL(str(person.http.base_url))
    connection = sockets.socket()
    connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port))
    authorization = person.http.headers["Authorization"]
    lines = [f"Host: {url.host}", f"Authorization: {authorization}"]
    if face == "websocket":
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    path = f"/api/v1/sessions/{session}/" + ("events" if face == "sse" else "stream")
    connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
    return connection
