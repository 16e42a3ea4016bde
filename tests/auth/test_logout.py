"""Signing out of the browser."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.support.browser import query_of
from tests.support.flows import REQUEST, WEB, events, exchange, let_in

if TYPE_CHECKING:
    from codelab.settings import AuthSettings
    from tests.support.auth import RunningAuth
    from tests.support.browser import Browser

#: Where the client of these tests may send browsers after signing out.
BYE = "https://app.example/bye?a=1"


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """Everybody may register clients."""
    return replace(settings, registration="open")


async def signed_in(auth: RunningAuth) -> int:
    """Count the browsers in which somebody is signed in."""
    return len(await auth.rows("SELECT id FROM browser_sessions"))


async def test_with_a_hint(provider: RunningAuth, browser: Browser) -> None:
    """An ID token of the person signs them out at once, an access token or another text does not."""
    answer = await let_in(browser, REQUEST, scope="openid api:read")
    tokens = (await exchange(provider, answer["code"])).json()
    for other in (tokens["access_token"], "x", "x" * 9000, ""):
        page = await browser.open(f"/oauth/logout?id_token_hint={other}")
        assert (page.status_code, "You are signed in as admin" in page.text) == (200, True)
    assert await signed_in(provider) == 1
    url = f"/oauth/logout?id_token_hint={tokens['id_token']}&post_logout_redirect_uri=https://evil.example"
    assert "Nobody is signed in" in (await browser.open(url)).text
    assert await signed_in(provider) == 0
    assert "logout" in await events(provider)


async def test_without_one(provider: RunningAuth, browser: Browser) -> None:
    """The person is asked, and a form of another site does nothing."""
    await let_in(browser)
    answer = await browser.http.post("/oauth/logout", data={"form_token": "x"})
    assert answer.status_code == 400
    assert "You are signed in as admin" in (await browser.http.post("/oauth/logout", data={"state": "x"})).text
    assert await signed_in(provider) == 1
    await browser.open("/oauth/logout")
    assert "Nobody is signed in" in (await browser.submit()).text
    assert await signed_in(provider) == 0
    assert "Nobody is signed in" in (await browser.open("/oauth/logout")).text


class TestGoingOn:
    async def log_in(self, auth: RunningAuth, browser: Browser) -> dict[str, str]:
        """Register a client, log in with it, and return a request of it to sign out."""
        members = {"redirect_uris": [WEB], "post_logout_redirect_uris": [BYE], "token_endpoint_auth_method": "none"}
        said = (await auth.http.post("/oauth/register", json=members)).json()
        assert said["post_logout_redirect_uris"] == [BYE]
        told = await let_in(browser, REQUEST, client_id=said["client_id"], scope="openid")
        token = (await exchange(auth, told["code"], client_id=said["client_id"])).json()["id_token"]
        return {"id_token_hint": token, "post_logout_redirect_uri": BYE, "state": "s t&te"}

    async def ask(self, browser: Browser, request: dict[str, str]) -> tuple[int, str | None]:
        """Send a request to sign out; return the status and where the browser is sent."""
        answer = await browser.http.get(f"/oauth/logout?{urlencode(request)}")
        return answer.status_code, answer.headers.get("Location")

    async def test_to_the_client(self, auth: RunningAuth, browser: Browser) -> None:
        """The browser is signed out, and sent to the client's URI with its state; a person who is out already too."""
        request = await self.log_in(auth, browser)
        status, location = await self.ask(browser, request)
        assert (status, (location or "").startswith(BYE)) == (303, True)
        assert query_of(location) == {"a": "1", "state": "s t&te"}
        assert await signed_in(auth) == 0
        del request["state"]
        assert await self.ask(browser, request) == (303, BYE)

    async def test_an_expired_hint_of_somebody_else(
        self, auth: RunningAuth, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The person is asked first, and then sent on; the page lets its form lead there."""
        monkeypatch.setattr("codelab.auth.tokens.time.time", lambda: 1_000_000_000.0)
        request = await self.log_in(auth, browser)
        monkeypatch.undo()
        await auth.execute(
            "INSERT INTO users (id, username, email, password_hash, is_active, is_verified, created_at, updated_at) "
            "SELECT 'bob', 'bob', 'bob@example.com', password_hash, is_active, is_verified, created_at, updated_at "
            "FROM users"
        )
        await auth.execute("UPDATE browser_sessions SET user_id = 'bob'")
        page = await browser.open(f"/oauth/logout?{urlencode(request)}")
        assert "You are signed in as bob" in page.text
        assert page.headers["Content-Security-Policy"].endswith("form-action 'self' https://app.example")
        assert await signed_in(auth) == 1
        await browser.submit()
        assert query_of(browser.left) == {"a": "1", "state": "s t&te"}
        assert await signed_in(auth) == 0

    async def test_nowhere_else(self, auth: RunningAuth, browser: Browser) -> None:
        """Without a hint of the client, or with a URI that is not one of its own, the browser stays on our page."""
        request = await self.log_in(auth, browser)
        (row,) = await auth.rows("SELECT client_id FROM oauth_clients WHERE is_registered")
        access = (await auth.login(scope="api:read")).json()["access_token"]
        for changes in (
            {"id_token_hint": ""},
            {"id_token_hint": "", "client_id": row["client_id"]},
            {"id_token_hint": access},
            {"id_token_hint": f"{request['id_token_hint'][:-8]}AAAAAAAA"},
            {"client_id": "codelab-cli"},
        ):
            assert await self.ask(browser, request | changes) == (200, None), changes
        assert await signed_in(auth) == 1
        for uri in (WEB, f"{BYE}&b=2", "https://app.example/bye", "https://evil.example/", "//evil.example", "/", ""):
            assert await self.ask(browser, request | {"post_logout_redirect_uri": uri}) == (200, None), uri
        await auth.execute("UPDATE oauth_clients SET is_active = :no", no=False)
        assert await self.ask(browser, request) == (200, None)

    async def test_what_cannot_be_registered(self, auth: RunningAuth) -> None:
        """The URIs are of the same kinds as those for answers."""
        for uris in (["javascript:alert(1)"], ["http://app.example/"], ["https://app.example/#x"], "x", [1]):
            members = {"redirect_uris": [WEB], "post_logout_redirect_uris": uris}
            answer = await auth.http.post("/oauth/register", json=members)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata"), uris
