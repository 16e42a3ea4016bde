"""Clients whose id is the URL of a document that describes them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab.auth.documents import NEGATIVE, is_document_url
from codelab.db import now
from tests.auth.test_cleaning import set_time
from tests.support.auth import PASSWORD
from tests.support.browser import query_of
from tests.support.flows import HERE, REQUEST, VERIFIER, url_of
from tests.support.https import serve_https

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.auth import RunningAuth
    from tests.support.browser import Browser
    from tests.support.https import WebServer


@pytest.fixture
async def auth(served: RunningAuth) -> RunningAuth:
    """The quicker one."""
    return served


@pytest.fixture
async def web(auth: RunningAuth, tmp_path: Path) -> AsyncIterator[WebServer]:
    """A web server with clients' documents, which the module finds."""
    async with serve_https(tmp_path) as server:
        auth.module._documents._fetcher = server.fetcher()
        yield server


def describe(web: WebServer, path: str = "/client.json", **members: Any) -> str:
    """Show a document; return the id of its client."""
    document = {"client_id": web.url(path), "client_name": "Editor", "redirect_uris": ["http://127.0.0.1/callback"]}
    return web.show(path, json.dumps(document | members), Cache_Control="max-age=600")


def ask(client_id: str, **changes: str | None) -> str:
    """Write the authorization request of such a client."""
    return url_of(REQUEST | {"client_id": client_id, "redirect_uri": HERE}, **changes)


async def test_whole_flow(auth: RunningAuth, web: WebServer, browser: Browser) -> None:
    """Signed in first, then fetched; the person is told whose description it is; code, tokens and refresh work."""
    bye = ["http://127.0.0.1/bye"]
    client_id = describe(web, grant_types=["authorization_code", "refresh_token"], post_logout_redirect_uris=bye)
    assert (await auth.post("/oauth/token", grant_type="refresh_token", client_id=client_id)).status_code == 401
    await browser.open(ask(client_id))
    assert "password" in browser.read.forms[0].fields
    assert web.asked == []
    await browser.sign_in("ada", "wrong password")
    assert web.asked == []
    await browser.sign_in("ada", PASSWORD)
    assert web.asked == ["/client.json"]
    for shown in ("Editor", f"client.example:{web.port}", "nobody else has checked"):
        assert shown in browser.page.text, browser.page.text
    await browser.submit("allow")
    told = query_of(browser.left)
    fields = {"client_id": client_id, "redirect_uri": HERE, "code": told["code"], "code_verifier": VERIFIER}
    tokens = (await auth.post("/oauth/token", grant_type="authorization_code", **fields)).json()
    assert (await auth.me(tokens["access_token"])).json()["client_id"] == client_id
    again = await auth.refresh(tokens["refresh_token"], client_id=client_id)
    assert again.status_code == 200
    # It is known now, and not fetched for a person who is not signed in either.
    await browser.open(ask(client_id))
    assert web.asked == ["/client.json"]
    assert (await auth.module.operators.clients.show(client_id)).post_logout_redirect_uris == bye
    rows = await auth.rows("SELECT client_id FROM audit_logs WHERE event_type = 'client_registered'")
    assert [row["client_id"] for row in rows] == [client_id]


async def test_a_document_is_read_again_when_its_time_is_over(
    auth: RunningAuth, web: WebServer, browser: Browser
) -> None:
    """What changed there holds here then; where it is gone the client is not known any more."""
    client_id = describe(web)
    await browser.open(ask(client_id))
    await browser.sign_in("ada", PASSWORD)
    describe(web, client_name="Other", redirect_uris=["http://127.0.0.1/elsewhere"])
    await browser.open(ask(client_id))
    assert "Editor" in browser.page.text
    for name, expected in (("Other", 400), ("Third", 200)):
        uri = "http://127.0.0.1/elsewhere" if name == "Other" else "http://127.0.0.1/callback"
        describe(web, client_name=name, redirect_uris=[uri])
        await set_time(auth, "UPDATE oauth_clients SET document_expires_at = :at", now() - timedelta(seconds=1))
        assert (await browser.open(ask(client_id))).status_code == expected
    assert "Third" in browser.page.text
    # An operator's word holds against the document.
    await auth.execute("UPDATE oauth_clients SET is_active = :no WHERE client_id = :id", no=False, id=client_id)
    await set_time(auth, "UPDATE oauth_clients SET document_expires_at = :at", now() - timedelta(seconds=1))
    assert (await browser.open(ask(client_id))).status_code == 400
    assert len(web.asked) == 4
    web.pages.clear()
    await set_time(auth, "UPDATE oauth_clients SET document_expires_at = :at", now() - timedelta(seconds=1))
    assert (await browser.open(ask(client_id))).status_code == 400


async def test_documents_that_are_not_taken(auth: RunningAuth, web: WebServer, browser: Browser) -> None:
    """Each is a page with status 400 and goes nowhere; it is not asked for again within a minute."""
    await browser.open(ask(describe(web)))
    await browser.sign_in("ada", PASSWORD)
    web.asked.clear()
    wrong: tuple[tuple[str, dict[str, Any]], ...] = (
        ("another", {"client_id": "https://client.example/other.json"}),
        ("nobody", {"client_id": None}),
        ("secret", {"client_secret": "x"}),
        ("method", {"token_endpoint_auth_method": "client_secret_basic"}),
        ("jwt", {"token_endpoint_auth_method": "private_key_jwt"}),
        ("nowhere", {"redirect_uris": []}),
        ("http", {"redirect_uris": ["http://client.example/cb"]}),
        ("grants", {"grant_types": ["client_credentials"]}),
        ("devices", {"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]}),
        ("name", {"client_name": "a\u202eb"}),
    )
    ids = [describe(web, f"/{name}", **members) for name, members in wrong]
    ids += [web.show("/list", "[]"), web.show("/text", "{"), web.show("/html", "{}", "text/html"), web.url("/gone")]
    for _ in range(2):
        for client_id in ids:
            answer = await browser.open(ask(client_id))
            assert (answer.status_code, browser.left) == (400, None), client_id
    assert len(web.asked) == len(ids)
    assert len(await auth.rows("SELECT id FROM oauth_clients")) == 3
    known = auth.module._documents._refused
    known.put(ids[-1], (known._values[ids[-1]][0] - NEGATIVE, ""))
    await browser.open(ask(ids[-1]))
    assert len(web.asked) == len(ids) + 1


async def test_nobody_who_is_not_signed_in_makes_the_server_fetch(
    auth: RunningAuth, web: WebServer, browser: Browser
) -> None:
    """Without a person there is a page to sign in, or with ``prompt=none`` an error; nothing is fetched or sent on."""
    client_id = describe(web)
    assert (await browser.open(ask(client_id))).status_code == 200
    assert (await browser.open(ask(client_id, prompt="none"))).status_code == 400
    for path in ("token", "revoke", "introspect", "device_authorization"):
        fields = {"client_id": client_id, "token": "x", "grant_type": "authorization_code", "code": "x"}
        answer = await auth.post(f"/oauth/{path}", **fields)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert web.asked == []


def test_which_urls_can_be_documents() -> None:
    """Https with a path, in one way of writing, and at most 255 characters."""
    for url in ("https://a.example/c", "https://a.example:8443/c.json", "https://a.example/c?v=1", "https://[::1]/c"):
        assert is_document_url(url), url
    for url in (
        *("http://a.example/c", "https://a.example", "https://a.example/", "https://u:p@a.example/c", "https:///c"),
        *("https://a.example/c#x", "https://a.example/a/../c", "https://a.example/./c", "https://a.example/%2e%2E/c"),
        *("https://a.example/é", "https://a.example/a b", "https://a.example/\n", "https://a.example:99999/c"),
        *("https://a.example\\@b.example/c", "web", "", "https://a.example/" + "x" * 255, "https://[::1/c"),
    ):
        assert not is_document_url(url), url
