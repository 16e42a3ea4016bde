"""The client's side of logging in with a browser: whom it believes, and when it can open one."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from aiohttp import web

from codelab.client import login
from codelab.client.errors import ApiError, LoginError, Unreachable
from codelab.client.login import Server, can_open_browser, discover, log_in, log_in_elsewhere

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL = "https://codelab.example"
SERVER = Server(
    issuer=URL,
    token_endpoint=f"{URL}/oauth/token",
    authorization_endpoint=f"{URL}/oauth/authorize",
    device_authorization_endpoint=f"{URL}/oauth/device_authorization",
)


class Visitor:
    """Comes back to the terminal as a browser does; takes the place of the line that shows the address."""

    def __init__(self) -> None:
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def tell(self, line: str) -> None:
        """Read the address from what the person is told."""
        self.address.set_result(line.splitlines()[-1])

    async def asked(self) -> dict[str, str]:
        """Return what the authorization request says."""
        return {name: values[0] for name, values in parse_qs(urlsplit(await self.address).query).items()}

    async def come_back(self, path: str = "", **answer: str) -> int:
        """Call the redirect URI."""
        uri = (await self.asked())["redirect_uri"]
        async with httpx2.AsyncClient(trust_env=False) as http:
            return (await http.get(f"{uri}{path}?{urlencode(answer)}")).status_code


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened: the test is the browser."""
    monkeypatch.setattr(login, "_open", lambda address: None)


async def test_code_flow() -> None:
    """It asks with PKCE, for the right client, at a port of its own, and takes the answer that has its state."""
    visitor = Visitor()
    going = asyncio.create_task(log_in(URL, SERVER, "ada", visitor.tell))
    asked = await visitor.asked()
    assert asked["client_id"] == "codelab-cli"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["login_hint"] == "ada"
    assert await visitor.come_back(code="c", state=asked["state"], iss=URL) == 200
    form = await going
    assert (form["code"], form["redirect_uri"]) == ("c", asked["redirect_uri"])
    assert len(form["code_verifier"]) >= 43


async def test_answers_of_others_are_ignored() -> None:
    """Another state, path or request does not end the wait; the right answer still does."""
    visitor = Visitor()
    going = asyncio.create_task(log_in(URL, SERVER, None, visitor.tell))
    asked = await visitor.asked()
    assert await visitor.come_back(code="evil", state="x", iss=URL) == 404
    assert await visitor.come_back(code="evil", iss=URL) == 404
    assert await visitor.come_back("/more", code="evil", state=asked["state"], iss=URL) == 404
    port = urlsplit(asked["redirect_uri"]).port
    for rubbish in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * 40_000, b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(rubbish)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert not going.done()
    await visitor.come_back(code="right", state=asked["state"], iss=URL)
    assert (await going)["code"] == "right"


@pytest.mark.parametrize("iss", ["https://evil.example", "", f"{URL}/"])
async def test_an_answer_of_another_server_is_refused(iss: str) -> None:
    """RFC 9207: what another issuer sent is not exchanged here."""
    visitor = Visitor()
    going = asyncio.create_task(log_in(URL, SERVER, None, visitor.tell))
    asked = await visitor.asked()
    await visitor.come_back(code="c", state=asked["state"], iss=iss)
    with pytest.raises(LoginError, match="another server"):
        await going


async def test_a_refusal_says_why() -> None:
    """What the server says is told to the person."""
    visitor = Visitor()
    going = asyncio.create_task(log_in(URL, SERVER, None, visitor.tell))
    asked = await visitor.asked()
    await visitor.come_back(error="access_denied", error_description="No.", state=asked["state"], iss=URL)
    with pytest.raises(LoginError, match="failed: No"):
        await going


async def test_nobody_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends, and says what else can be done."""
    monkeypatch.setattr(login, "PATIENCE", 0.05)
    with pytest.raises(LoginError, match="--device"):
        await log_in(URL, SERVER, None, lambda line: None)


@asynccontextmanager
async def answering(path: str, document: dict[str, Any]) -> AsyncIterator[str]:
    """Serve one document; gives the origin. ``ORIGIN`` in it is replaced."""

    async def answer(request: web.Request) -> web.Response:
        origin = f"http://{request.host}"
        return web.Response(text=json.dumps(document).replace("ORIGIN", origin), content_type="application/json")

    app = web.Application()
    app.add_routes([web.route("*", path, answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


METADATA = "/.well-known/oauth-authorization-server"


async def test_discovery() -> None:
    """A server is believed when it calls itself what it was asked as, also below a path (RFC 8414 section 3)."""
    token = {"token_endpoint": "ORIGIN/oauth/token"}
    async with answering(f"{METADATA}/lab", {"issuer": "ORIGIN/lab/", **token}) as origin:
        found = await discover(f"{origin}/lab")
        assert found is not None
        assert found.issuer == f"{origin}/lab/"
        assert await discover(origin) is None
    async with answering(METADATA, {"issuer": "https://other.example", **token}) as origin:
        with pytest.raises(LoginError, match=r"calls itself https://other\.example"):
            await discover(origin)
    async with answering(METADATA, {"hello": "there"}) as origin:
        assert await discover(origin) is None


async def test_device_flow() -> None:
    """It asks until there is an answer, more slowly when told so, and goes on when a question was lost."""
    codes = {
        "device_code": "d",
        "user_code": "WDJB-MJHT",
        "verification_uri": "ORIGIN/device",
        "interval": 0,
    }
    told: list[str] = []
    answers: list[Exception | str] = [
        ApiError(400, "authorization_pending", "wait"),
        Unreachable("lost"),
        ApiError(400, "slow_down", "slower"),
        "tokens",
    ]
    asked: list[dict[str, str]] = []

    async def ask(form: dict[str, str]) -> str:
        asked.append(form)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with answering("/oauth/device_authorization", codes) as origin:
        server = Server(origin, "", device_authorization_endpoint=f"{origin}/oauth/device_authorization")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(login, "SLOWER", 0.0)
            assert await log_in_elsewhere(origin, server, ask, told.append) == "tokens"
    assert "WDJB-MJHT" in told[0]
    assert {form["device_code"] for form in asked} == {"d"}
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"BROWSER": "x"}, True),
        ({"BROWSER": "x", "SSH_CONNECTION": "1"}, True),
        ({"SSH_CONNECTION": "1", "DISPLAY": ":0"}, False),
        ({"SSH_TTY": "1"}, False),
    ],
)
def test_when_a_browser_can_be_opened(environ: dict[str, str], expected: bool) -> None:
    """One that was named always; else not at the other end of SSH."""
    assert can_open_browser(environ) is expected
