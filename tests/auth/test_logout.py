"""Signing out of the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.flows import REQUEST, events, exchange, let_in

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth
    from tests.support.browser import Browser


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
