"""The pages that people see: what they say, what they refuse, and what browsers are told about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.browser import Browser, browsing
from tests.support.flows import REQUEST, WEB, let_in, url_of

if TYPE_CHECKING:
    from codelab.settings import AuthSettings


async def test_headers(provider: RunningAuth, browser: Browser) -> None:
    """Pages run no script, are in no frame and in no cache, and their forms lead to us and the client alone."""
    await browser.open(url_of(REQUEST))
    for _ in range(2):
        page = browser.page
        policy = page.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self' https://app.example" in policy
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in page.headers
        assert not {"script", "style", "img", "iframe"} & set(browser.read.tags)
        assert " style=" not in page.text
        if "password" in browser.read.forms[0].fields:
            await browser.sign_in("admin", PASSWORD)
    style = await browser.http.get("/oauth/style.css")
    assert (style.status_code, style.headers["Content-Type"].partition(";")[0]) == (200, "text/css")


async def test_names_are_only_text(provider: RunningAuth, browser: Browser) -> None:
    """What a client calls itself cannot become a part of the page."""
    await provider.execute("UPDATE oauth_clients SET name = :name", name="<script>alert(1)</script>{{ 7*7 }}")
    await browser.open(url_of(REQUEST))
    for _ in range(2):
        assert "script" not in browser.read.tags
        assert "{{ 7*7 }}" in browser.page.text
        if "password" in browser.read.forms[0].fields:
            await browser.sign_in("admin", PASSWORD)


async def test_languages(provider: RunningAuth, browser: Browser) -> None:
    """English, or Russian for who likes that better."""
    for accepted, language, word in (
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru", "Вход"),
        ("en-GB,ru;q=0.5", "en", "Sign in"),
        ("de", "en", "Sign in"),
        ("de, ru;q=0.3", "ru", "Вход"),
        ("ru;q=0, x;q=abc,,", "en", "Sign in"),
    ):
        page = await browser.open(url_of(REQUEST), **{"Accept-Language": accepted})
        assert page.headers["Content-Language"] == language
        assert f'<html lang="{language}">' in page.text
        assert word in page.text


async def test_cookie(provider: RunningAuth, browser: Browser) -> None:
    """Scripts do not see it, forms of other sites do not send it, and who signs in gets another one."""
    await browser.open(url_of(REQUEST))
    before = browser.http.cookies["codelab"]
    await browser.sign_in("admin", PASSWORD)
    set_cookies = [each.headers["Set-Cookie"] for each in browser.seen if "Set-Cookie" in each.headers]
    assert len(set_cookies) == 2
    for each in set_cookies:
        assert "httponly" in each.lower()
        assert "samesite=lax" in each.lower()
        assert "domain" not in each.lower()
    assert browser.http.cookies["codelab"] != before


async def test_cookie_on_https(settings: AuthSettings) -> None:
    """There it is bound to the host and never sent in clear."""
    origin = "https://codelab.example"
    async with running_auth(settings, issuer=origin) as auth:
        await auth.client("web", "authorization_code", redirect_uris=[WEB])
        async with browsing(auth.app, origin) as browser:
            cookie = (await browser.open(url_of(REQUEST))).headers["Set-Cookie"]
            assert cookie.startswith("__Host-codelab=")
            assert "secure" in cookie.lower()
            assert (await let_in(browser))["iss"] == origin


async def test_forms_of_others_are_refused(provider: RunningAuth, browser: Browser) -> None:
    """A form without the token, or with that of another browser, does nothing: neither sign-in nor consent."""
    await browser.open(url_of(REQUEST))
    async with browsing(provider.app) as other:
        await other.open(url_of(REQUEST))
        stolen = other.read.forms[0].fields["form_token"]
    for token in ("", "x", "é", stolen):
        fields = browser.read.forms[0].fields | {"username": "admin", "password": PASSWORD, "form_token": token}
        page = await browser.http.post("/oauth/sign-in", data=fields)
        assert (page.status_code, "no longer valid" in page.text) == (400, True)
    await browser.sign_in("admin", PASSWORD)
    for token in ("", "x", stolen):
        fields = browser.read.forms[0].fields | {"decision": "allow", "form_token": token}
        assert (await browser.http.post("/oauth/consent", data=fields)).status_code == 400
    async with browsing(provider.app) as without_cookies:
        fields = browser.read.forms[0].fields | {"decision": "allow"}
        assert (await without_cookies.http.post("/oauth/consent", data=fields)).status_code == 400
    assert await provider.rows("SELECT id FROM authorization_codes") == []


async def test_consent_needs_a_person(provider: RunningAuth, browser: Browser) -> None:
    """Whose sign-in ended while the page was open signs in again first."""
    await browser.open(url_of(REQUEST))
    await browser.sign_in("admin", PASSWORD)
    await provider.execute("DELETE FROM browser_sessions")
    await browser.submit("allow")
    assert browser.left is None
    assert "password" in browser.read.forms[0].fields


async def test_other_forms(provider: RunningAuth, browser: Browser) -> None:
    """What is no form gets a page that says so, never a 5xx."""
    for path in ("/oauth/sign-in", "/oauth/consent", "/oauth/authorize"):
        for body, kind in ((b"{}", "application/json"), (b"a=1&a=2", "application/x-www-form-urlencoded")):
            page = await browser.http.post(path, content=body, headers={"Content-Type": kind})
            assert page.status_code == 400 or path == "/oauth/authorize"
        large = await browser.http.post(path, data={"x": "y" * 70_000})
        assert large.status_code == 413
