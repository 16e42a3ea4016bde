"""The way to MCP servers: where it leads, where redirects do not lead it, and which addresses a name may have."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from codelab.agent.mcp.places import RefusedUrl
from codelab.agent.mcp.transport import Guarded
from tests.support.https import HOST, serve_https
from tests.support.mcp import McpServer, run_mcp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.support.server import Person

SECRET = "Bearer kT7-not-for-others"


@pytest.fixture
async def remote() -> AsyncIterator[McpServer]:
    """An MCP server."""
    async with run_mcp_server() as server:
        yield server


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[int, list[None]]]:
    """Listen on a free loopback port; give it with what grows with each connection."""
    seen: list[None] = []

    async def hang_up(_reader: Any, writer: asyncio.StreamWriter) -> None:
        seen.append(None)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen


async def add(person: Person, session: str, name: str, url: str) -> httpx2.Response:
    """Give a session a server, with a header that is for this one only."""
    body = {"name": name, "url": url, "headers": {"Authorization": SECRET, "X-Key": SECRET}}
    return await person.http.post(f"/api/v1/sessions/{session}/mcp-servers", json=body)


def require_ipv4_localhost() -> None:
    """Skip where the name localhost leads to IPv6 first: the servers of the tests listen on 127.0.0.1."""
    if socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)[0][4][0] != "127.0.0.1":
        pytest.skip("localhost is not 127.0.0.1 first here")


async def test_a_redirect_on_the_same_place_is_followed(serve: Serve, remote: McpServer) -> None:
    """With the request as it is (307 and 308), whether the host is an address or a name; its headers go along."""
    require_ipv4_localhost()
    port = remote.place.rpartition(":")[2]
    named = f"http://localhost:{port}"
    remote.moved = {
        "/temporarily": (307, "/mcp"),
        "/for-good": (308, remote.url),
        "/twice": (307, "for-good"),
        "/named": (307, f"{named}/mcp"),
        "/named-relative": (308, "mcp"),
    }
    hosts = (remote.place, f"localhost:{port}", "127.0.0.1", "[::1]")
    async with serve(mcp_allowed_hosts=hosts) as running:
        ada = await running.person()
        session = await ada.session(agent="coder")
        for path in ("temporarily", "for-good", "twice"):
            assert (await add(ada, session, path, f"http://{remote.place}/{path}")).status_code == 201
        for path in ("named", "named-relative"):
            answer = await add(ada, session, path, f"{named}/{path}")
            assert answer.status_code == 201, answer.text

    assert remote.tokens == {SECRET}
    assert remote.asked.count("/mcp") >= 5


async def test_a_redirect_to_anywhere_else_is_not_followed(serve: Serve, remote: McpServer) -> None:
    """Not to another host, port or scheme, though each is allowed itself; no header reaches them, nor a connection."""
    require_ipv4_localhost()
    port = remote.place.rpartition(":")[2]
    async with run_mcp_server() as other, counting() as (closed, connections):
        remote.moved = {
            "/host": (307, f"http://localhost:{port}/mcp"),
            "/port": (307, other.url),
            "/port-for-good": (308, other.url),
            "/scheme": (307, f"https://127.0.0.1:{closed}/mcp"),
            "/same-port": (307, f"https://{remote.place}/mcp"),
            "/protocol-relative": (307, f"//{other.place}/mcp"),
            "/user": (307, f"http://me:pw@{remote.place}/mcp"),
            "/another-user": (307, f"http://{remote.place}@{other.place}/mcp"),
            "/backslash": (307, f"http://{other.place}\\@{remote.place}/mcp"),
            "/metadata": (307, "http://169.254.169.254/latest/meta-data"),
            "/file": (307, "file:///etc/passwd"),
            "/get": (302, "/mcp"),
            "/see-other": (303, "/mcp"),
            "/moved": (301, "/mcp"),
            "/empty": (307, ""),
            "/round": (307, "/round"),
            "/first": (307, "/port"),
        }
        hosts = (remote.place, other.place, f"localhost:{port}", f"127.0.0.1:{closed}", "127.0.0.1", "[::1]")
        async with serve(mcp_allowed_hosts=hosts) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            answers = {path: await add(ada, session, "moved", f"http://{remote.place}{path}") for path in remote.moved}

        assert {path: answer.json()["code"] for path, answer in answers.items()} == dict.fromkeys(
            remote.moved, "mcp_unreachable"
        )
        assert not any("127.0.0.1" in answer.json()["detail"] for answer in answers.values())
        assert "/mcp" not in remote.asked
        assert (other.asked, connections) == ([], [])
        assert 5 < remote.asked.count("/round") < 60


async def test_a_name_that_leads_to_this_machine_is_refused(serve: Serve, remote: McpServer) -> None:
    """An allowed name is not enough where its address is private, whoever spells it; nothing is connected then."""
    require_ipv4_localhost()
    port = remote.place.rpartition(":")[2]
    async with counting() as (closed, connections):
        spellings = ("127.1", "2130706433", "0x7f000001", "0177.0.0.1")
        places = tuple(f"{spelling}:{closed}" for spelling in spellings)
        async with serve(mcp_allowed_hosts=(f"localhost:{port}", *places)) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            named = await add(ada, session, "named", f"http://localhost:{port}/mcp")
            spelled = [await add(ada, session, "spelled", f"https://{place}/mcp") for place in places]
        assert (named.json()["code"], remote.asked) == ("mcp_unreachable", [])
        assert {answer.json()["code"] for answer in spelled} == {"mcp_unreachable"}
        assert connections == []

        allowed = (f"localhost:{port}", *places, "127.0.0.1", "[::1]")
        async with serve(mcp_allowed_hosts=allowed) as running:
            ada = await running.person()
            session = await ada.session(agent="coder")
            named = await add(ada, session, "named", f"http://localhost:{port}/mcp")
            await add(ada, session, "spelled", f"https://{places[0]}/mcp")
        assert named.status_code == 201
        assert len(connections) == 1  # where the address is allowed too it is tried; TLS fails there


async def test_the_usual_ports_of_two_schemes_are_two_places() -> None:
    """A host without a port is one of http or of https, as it was asked first: nothing leads from one to the other."""
    for first, second in (("http", "https"), ("https", "http")):
        transport = Guarded("127.0.0.1", {"127.0.0.1"}, 1024)
        async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=5) as http:
            with contextlib.suppress(httpx2.TransportError):  # whoever listens there, if anybody does
                await http.get(f"{first}://127.0.0.1/")
            with pytest.raises(RefusedUrl, match="stay on its scheme"):
                await http.get(f"{second}://127.0.0.1/")


class _Names:
    """The resolver of the running loop, which finds a few names of the test besides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> None:
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            self.asked.append(name)
            if (addresses := self.names.get(name)) is None:
                return await real(host, port, **options)
            family = {True: socket.AF_INET6, False: socket.AF_INET}
            return [(family[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_every_address_of_a_name_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address beside a public one is enough to refuse; the connection goes to what was looked at.

    No name of the real world has such addresses for sure, so the event loop's resolver is patched for this one.
    """
    async with serve_https(tmp_path) as web:
        web.show("/mcp", "{}")
        web.show("/other", "{}")
        place = f"{HOST}:{web.port}"
        names = _Names(monkeypatch, client_example=["93.184.216.34", "127.0.0.1"], other_example=["127.0.0.1"])
        refused: dict[str, list[str]] = {
            "one of two": ["93.184.216.34", "127.0.0.1"],
            "a private network": ["10.0.0.5"],
            "metadata": ["169.254.169.254"],
            "hidden in IPv6": ["::ffff:127.0.0.1"],
            "unique local": ["fd00::1"],
            "link local": ["fe80::1%1"],
            "unspecified": ["0.0.0.0"],  # noqa: S104 - nothing is bound
            "no address": [],
        }
        transport = Guarded(place, {place}, 1024, web.tls)
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
            for addresses in refused.values():
                names.names[HOST] = addresses
                with pytest.raises(httpx2.ConnectError, match="not on the internet"):
                    await http.get(web.url("/mcp"))
        assert web.asked == []

        # Allowed itself: looked up by name once for each request, connected by address, with TLS for the name.
        names.names[HOST] = ["127.0.0.1"]
        names.asked.clear()
        transport = Guarded(place, {place, "127.0.0.1"}, 1024, web.tls)
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
            answer = await http.get(web.url("/mcp"))
            assert names.asked[0] == HOST
            assert names.asked.count(HOST) == 1
            # Another name meanwhile: the next request is looked at again, also on a connection that is open.
            names.names[HOST] = ["10.0.0.5"]
            with pytest.raises(httpx2.ConnectError, match="not on the internet"):
                await http.get(web.url("/other"))
        assert answer.status_code == 200
        assert str(answer.request.url) == web.url("/mcp")
        assert web.asked == ["/mcp"]

        # A certificate for another name is none, though the address is right.
        elsewhere = f"other.example:{web.port}"
        transport = Guarded(elsewhere, {elsewhere, "127.0.0.1"}, 1024, web.tls)
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await http.get(f"https://{elsewhere}/mcp")
        assert web.asked == ["/mcp"]
