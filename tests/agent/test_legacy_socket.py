"""Sockets without a token (``AGENT_RUNTIME__LEGACY_WEBSOCKET``): who is let in, for whom, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from codelab.agent.entry import Acquaintances
from codelab.agent.entry import legacy as legacy_module
from codelab.identity import Principal
from tests.agent.providers.upstream import text_answer
from tests.agent.test_entry import status_of
from tests.reference.clients import is_final, open_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Running

ORIGIN = "https://ide.example"


async def test_a_socket_is_taken_for_whoever_used_the_session(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """Made or read over HTTP from here: let in on the reference's sockets alone, with that caller's rights."""
    running = await start(**with_model, legacy_websocket=True, legacy_websocket_origins=(ORIGIN,))
    ada, bob = await running.person(), await running.person("bob")
    session = await ada.session(agent="ask")
    model.play(text_answer("Hello."))
    async with open_socket(running.url, f"/api/v1/ws/{session}", {}) as talk:
        await talk.say("hello")
        assert (await talk.until(is_final))[-1]["content"] == "Hello."
    path = f"/ws/{session}"
    tries: list[tuple[str, dict[str, str], int]] = [
        (path, {"Origin": ORIGIN}, 101),
        (path, {"Origin": "https://evil.example"}, 401),
        (path, {"Origin": "null"}, 401),
        (path, {"X-Forwarded-For": "127.0.0.1"}, 401),
        (path, {"Forwarded": "for=127.0.0.1"}, 401),
        (path, {"Authorization": "Bearer nonsense"}, 401),
        ("/ws/unseen", {}, 401),
        (f"/api/v1/sessions/{session}/stream", {}, 401),
    ]
    for where, headers, status in tries:
        assert await status_of(running.url, where, headers) == status, (where, headers)
    # A failed read is no acquaintance; a second person with a session of that id makes it nobody's.
    assert (await bob.http.get("/api/v1/sessions/unseen")).status_code == 404
    assert await status_of(running.url, "/ws/unseen") == 401
    await bob.session(session_id=session)
    assert await status_of(running.url, path) == 401


async def test_the_socket_dies_with_the_token(start: Callable[..., Awaitable[Running]]) -> None:
    """When the caller's token ends the socket is closed, and no new one is let in."""
    running = await start(legacy_websocket=True)
    ada = await running.person(lifetime=3)
    session = await ada.session()
    async with open_socket(running.url, f"/ws/{session}", {}) as talk, asyncio.timeout(60):
        with pytest.raises(ConnectionClosed):
            await talk.connection.recv()

    assert talk.connection.close_code == 4401
    assert await status_of(running.url, f"/ws/{session}") == 401


async def test_it_is_off_by_default(running: Running) -> None:
    """Nobody is let in without a proof, whatever they did before."""
    ada = await running.person()
    session = await ada.session()

    assert await status_of(running.url, f"/ws/{session}") == 401
    assert await status_of(running.url, f"/api/v1/ws/{session}") == 401


def scope_of(address: Any, *headers: tuple[bytes, bytes]) -> Any:
    """Make a scope of a connection from an address."""
    return {"client": address and (address, 5000), "headers": list(headers)}


ADA = Principal(subject="a", username="ada", client_id="c", scopes=frozenset())


@pytest.mark.parametrize(
    ("address", "is_let_in"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("192.168.1.5", True),
        ("fd00::1", True),
        ("::ffff:10.1.2.3", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound to it
        ("testclient", False),
        ("", False),
        (None, False),
    ],
)
async def test_addresses(address: Any, is_let_in: bool) -> None:
    """Only an address in the same network means something."""
    known = Acquaintances(None, origins=(), behind_proxy=False)
    known.note(scope_of(address), ADA, "s")

    assert (await known.find(scope_of(address), "s") == ADA) is is_let_in
    assert await known.find(scope_of("10.9.9.9"), "s") is None


@pytest.mark.parametrize("header", sorted(legacy_module._FORWARDED))
async def test_proxies(header: bytes) -> None:
    """A header that proxies add keeps a socket out, and the request before it from counting."""
    known = Acquaintances(None, origins=(), behind_proxy=False)
    known.note(scope_of("10.1.2.3", (header, b"x")), ADA, "s")
    assert await known.find(scope_of("10.1.2.3"), "s") is None
    known.note(scope_of("10.1.2.3"), ADA, "s")
    assert await known.find(scope_of("10.1.2.3", (header, b"x")), "s") is None
    behind = Acquaintances(None, origins=(), behind_proxy=True)
    behind.note(scope_of("10.1.2.3"), ADA, "s")
    assert await behind.find(scope_of("10.1.2.3"), "s") is None


async def test_ten_minutes_and_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller is forgotten after ten minutes, and when too many came after them."""
    known = Acquaintances(None, origins=(), behind_proxy=False)
    with monkeypatch.context() as patch:
        patch.setattr(legacy_module, "REMEMBERED", 0)
        known.note(scope_of("10.1.2.3"), ADA, "s")
        assert await known.find(scope_of("10.1.2.3"), "s") is None
    known.note(scope_of("10.1.2.3"), ADA, "s")
    monkeypatch.setattr(legacy_module, "MOST", 1)
    assert await known.find(scope_of("10.1.2.3"), "s") == ADA
    known.note(scope_of("10.1.2.3"), ADA, "t")
    assert await known.find(scope_of("10.1.2.3"), "s") is None
