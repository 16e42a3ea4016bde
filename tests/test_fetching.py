"""Documents from URLs that a stranger named: what is fetched, and what the server is not led into."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from codelab import fetching
from codelab.fetching import MAX_BYTES, Fetcher, NotFetched, is_public
from tests.support.https import serve_https

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.https import WebServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebServer]:
    """A web server with TLS."""
    async with serve_https(tmp_path) as running:
        yield running


PRIVATE = (
    *("0.0.0.0", "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),  # noqa: S104 - refused
    *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0"),
    *("fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2001:db8::1", "2001:0:7f00:1::"),
)


def test_which_addresses_are_public() -> None:
    """No address of a machine, a network, a cloud's metadata or a documentation is, in whatever disguise."""
    assert [address for address in PRIVATE if is_public(address)] == []
    for address in ("93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"):
        assert is_public(address), address


async def test_a_document_is_fetched(server: WebServer) -> None:
    """With what its server says about how long it is good; nothing is sent but what is needed."""
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"a": 1}, headers={"Cache-Control": "public, max-age=600", "Set-Cookie": "a=b"})

    server.pages["/client.json"] = answer
    fetcher = server.fetcher()
    for _ in range(2):
        assert await fetcher.fetch(server.url()) == (b'{"a": 1}', 600)
    assert [sorted(headers) for headers in seen] == [
        ["accept", "accept-encoding", "connection", "host", "user-agent"]
    ] * 2
    assert await fetcher.fetch(server.show("/plain", b"{}", "application/problem+json")) == (b"{}", None)


async def test_nothing_private_is_connected(server: WebServer) -> None:
    """A name or a literal that leads to one private address, also beside a public one, is refused before any byte."""
    server.show("/client.json", "{}")
    guarded = server.fetcher(guarded=True)
    for url in (server.url(), f"https://both.example:{server.port}/client.json"):
        with pytest.raises(NotFetched, match="not on the internet"):
            await guarded.fetch(url)
    for host in ("127.0.0.1", "[::1]", "127.1", "0x7f000001", "2130706433", "localhost", "[::ffff:127.0.0.1]"):
        with pytest.raises(NotFetched):
            await Fetcher(tls=server.tls).fetch(f"https://{host}:{server.port}/client.json")
    assert server.asked == []


async def test_the_name_is_resolved_once(server: WebServer) -> None:
    """What was looked at is what is connected: a second answer of the name server is not asked for (rebinding)."""
    asked = 0

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"] if asked == 1 else ["127.0.0.2"]

    server.show("/client.json", "{}")
    fetcher = Fetcher(resolve=resolve, allowed=lambda address: address == "127.0.0.1", tls=server.tls)
    assert (await fetcher.fetch(server.url())).body == b"{}"
    assert asked == 1
    with pytest.raises(NotFetched, match="not on the internet"):
        await fetcher.fetch(server.url())


async def test_what_is_not_taken(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirects, other answers and kinds, what is compressed, too large or too slow, and servers nobody vouches for."""
    monkeypatch.setattr(fetching, "TIMEOUT", 0.5)
    stop = asyncio.Event()

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": server.url("/secret")})

    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"[")
        await stop.wait()
        return response

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " * 4096)

    server.pages.update({"/redirect": redirect, "/forever": forever, "/flood": flood})
    server.show("/large", b" " * (MAX_BYTES + 1))
    server.show("/html", "<html>", "text/html")
    server.show("/bomb", gzip.compress(b" " * 10_000_000), Content_Encoding="gzip")
    server.show("/secret", "{}")
    fetcher = server.fetcher()
    for path, reason in (
        ("/redirect", "answered 302"),
        ("/nothing", "answered 404"),
        ("/html", "no JSON"),
        ("/bomb", "compressed"),
        ("/large", "more than"),
        ("/flood", "more than"),
        ("/forever", "no answer"),
    ):
        with pytest.raises(NotFetched, match=reason):
            await fetcher.fetch(server.url(path))
    stop.set()
    assert "/secret" not in server.asked
    for url, reason in (
        (server.url().replace("https", "http"), "no https"),
        (server.url().replace("client.example", "other.example"), "cannot be reached"),
        ("https://client.example:1/x", "cannot be reached"),
        ("https://client.example:99999/x", "cannot be reached"),
        ("https://", "no https"),
    ):
        with pytest.raises(NotFetched, match=reason):
            await fetcher.fetch(url)
