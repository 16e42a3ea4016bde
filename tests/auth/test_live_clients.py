"""Clients that block, or run elsewhere, through whole flows against a server that listens."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from oauthlib.oauth2 import BackendApplicationClient, WebApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from codelab.auth.operators.common import Actor
from codelab.auth.operators.wanted import WantedClient
from codelab.auth.schemas import Origin
from tests.support.auth import PASSWORD
from tests.support.browser import Browser
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Running

WEB = "https://app.example/cb"
SECRET = "s" * 43
#: The client of Node, in a version that is known; where it comes from is npm's own business.
PACKAGE = "openid-client@6.9.0"
SCRIPT = Path(__file__).with_name("openid_client.mjs")


@pytest.fixture
async def running(migrated: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A server with ``ada`` and a confidential client that may do everything."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the loopback has no TLS
    actor = Actor("tests", Origin())
    async with serving(make_settings(migrated, tmp_path)) as server:
        operators = server.app.state.auth.operators
        await operators.users.create(actor, "ada", "ada@example.com", PASSWORD)
        wanted = WantedClient(
            client_id="web",
            name="Web",
            confidential=True,
            secret=SECRET,
            redirect_uris=[WEB],
            grants=["authorization_code", "refresh_token", "client_credentials", "device_code"],
        )
        await operators.clients.create(actor, wanted)
        yield server


async def decide(server: Running, url: str) -> str:
    """Do what a person does, and return where the browser was sent: a page of ours, or the client's."""
    async with httpx2.AsyncClient(base_url=server.url, verify=False, timeout=30) as http:
        browser = Browser(http)
        await browser.open(url)
        await browser.sign_in("ada", PASSWORD)
        if browser.left is None:
            await browser.submit("allow")
        return browser.left or str(browser.page.url)


class TestRequestsOauthlib:
    async def test_code_flow(self, running: Running) -> None:
        """PKCE, exchange, the API, userinfo, a refresh by itself, and the end."""
        server = (await running.http.get("/.well-known/oauth-authorization-server")).json()
        saved: list[dict[str, Any]] = []
        with OAuth2Session(
            "web",
            redirect_uri=WEB,
            scope=["openid", "profile", "api:read"],
            pkce="S256",
            auto_refresh_url=server["token_endpoint"],
            token_updater=saved.append,
        ) as session:
            url, state = session.authorization_url(server["authorization_endpoint"])
            answer = await decide(running, url)
            assert f"state={state}" in answer
            token = await asyncio.to_thread(
                session.fetch_token, server["token_endpoint"], authorization_response=answer, client_secret=SECRET
            )
            listed = await asyncio.to_thread(session.get, f"{running.url}/api/v1/sessions")
            person = await asyncio.to_thread(session.get, server["userinfo_endpoint"])
            assert (listed.status_code, person.json()["preferred_username"]) == (200, "ada")

            session.auto_refresh_kwargs = {"client_id": "web", "client_secret": SECRET}
            session.token = {**token, "expires_in": -1, "expires_at": 1.0}
            again = await asyncio.to_thread(session.get, f"{running.url}/api/v1/sessions")
            assert again.status_code == 200
            (refreshed,) = saved
            assert refreshed["refresh_token"] != token["refresh_token"]

            ended = await asyncio.to_thread(
                session.post,
                server["revocation_endpoint"],
                data={"token": refreshed["refresh_token"]},
                auth=HTTPBasicAuth("web", SECRET),
                withhold_token=True,
            )
            assert ended.status_code == 200
            session.token = refreshed
            assert (await asyncio.to_thread(session.get, f"{running.url}/api/v1/sessions")).status_code == 401

    async def test_it_understands_refusals(self, running: Running) -> None:
        """A code that is no good and a wrong secret are errors of the kind that it knows."""
        from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidGrantError

        url = f"{running.url}/oauth/token"
        with OAuth2Session(client=WebApplicationClient("web"), redirect_uri=WEB) as session:
            fetch = session.fetch_token
            with pytest.raises(InvalidGrantError):
                await asyncio.to_thread(fetch, url, code="x", client_secret=SECRET, code_verifier="v" * 43)
            with pytest.raises(InvalidClientError):
                await asyncio.to_thread(fetch, url, code="x", client_secret="wrong", code_verifier="v" * 43)

    async def test_client_credentials(self, running: Running) -> None:
        """A program acts for itself."""
        with OAuth2Session(client=BackendApplicationClient("web", scope=["api:read"])) as session:
            url = f"{running.url}/oauth/token"
            token = await asyncio.to_thread(session.fetch_token, url, client_secret=SECRET)
            assert token.scope_changed is False
            assert (await asyncio.to_thread(session.get, f"{running.url}/api/v1/sessions")).status_code == 200


@pytest.fixture(scope="session")
def openid_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a script that uses ``openid-client``, which npm installs there."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("openid-client is a client of Node, and there is no node or npm on the PATH")
    folder = tmp_path_factory.mktemp("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"openid-client needs Node 20 or newer; this is {version}")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {PACKAGE} within a minute")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    shutil.copy(SCRIPT, folder)
    return folder


async def test_openid_client(running: Running, openid_client: Path) -> None:
    """Npm's certified client: discovery, PKCE, nonce, ID token, userinfo, refresh, introspection, devices, the end."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(openid_client / SCRIPT.name),
        b64encode(json.dumps({"issuer": running.url, "secret": SECRET, "redirect": WEB}).encode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    told: dict[str, Any] = {}
    try:
        async with asyncio.timeout(60):
            # It names a URL that a person has to open, and hears where that led; its last line is what it found.
            async for line in process.stdout:
                told = json.loads(line)
                if "open" in told:
                    process.stdin.write(f"{await decide(running, told['open'])}\n".encode())
                    await process.stdin.drain()
            errors = (await process.stderr.read()).decode()
            # Waited for before it may be killed: to kill one that has just ended takes its exit code from who waits.
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors
    assert told == {
        "person": "ada",
        "refreshed": True,
        "nonce": "n-0",
        "active": [True, False],
        "program": "web",
        "device": "ada",
        "wrong": "invalid_grant",
    }
