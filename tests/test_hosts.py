"""Requests under a name that is not the server's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from codelab.app import create_app
from codelab.settings import ServerSettings, Settings
from tests.support.apps import talking
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import DatabaseUrls


@pytest.fixture
def dialect() -> str:
    """Names have nothing to do with databases."""
    return "sqlite"


@pytest.fixture
def settings(migrated: DatabaseUrls, tmp_path: Path) -> Settings:
    """Settings that allow one more name."""
    server = ServerSettings(allowed_hosts=("codelab.internal",))
    return replace(make_settings(migrated, tmp_path), server=server)


async def test_names_of_this_server(settings: Settings) -> None:
    """The issuer's, those of the setting and the loopback ones pass with any port; others get a problem document."""
    app = create_app(settings, issuer="https://codelab.example.com/base")
    async with talking(app) as http:
        for host in ("codelab.example.com", "CODELAB.example.com:8443", "codelab.internal", "localhost:1", "[::1]:80"):
            answer = await http.get("/.well-known/jwks.json", headers={"Host": host})
            assert answer.status_code == 200, host
        for host in (
            "evil.example",
            "codelab.example.com.evil",
            "",
            "127.0.0.2",
            "a b",
            "[",
            "codelab.example.com@evil",
        ):
            answer = await http.get("/.well-known/jwks.json", headers={"Host": host})
            assert answer.status_code == 400, host
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["field"] == "Host"
            assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
        assert (await http.post("/oauth/token", headers={"Host": "evil.example"})).status_code == 400
        assert (await http.get("/health", headers={"Host": "10.0.0.7:8000"})).status_code == 200


async def test_two_hosts_or_none(settings: Settings) -> None:
    """Which of two counts is not guessed, and one is needed."""
    app = create_app(settings, issuer="https://codelab.example.com")
    for headers in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope: Any = {"type": "http", "method": "GET", "path": "/x", "headers": headers, "state": {}}
        await app(scope, receive, send)
        assert sent[0]["status"] == 400


async def test_sockets_too(settings: Settings) -> None:
    """A page of another name cannot open a socket here, whatever it knows."""
    async with serving(settings) as running:
        url = running.url.replace("http", "ws", 1) + "/api/v1/sessions/x/stream"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, additional_headers={"Host": "evil.example"}):
                pytest.fail("it opened")
        assert refused.value.response.status_code == 400
