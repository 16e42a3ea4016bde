"""Letting a client in by way of a browser: RFC 6749 section 4.1, PKCE, RFC 9207, OpenID Connect's parameters."""

from __future__ import annotations

from urllib.parse import urlencode

import jwt as pyjwt
import pytest

from tests.support.auth import ISSUER, PASSWORD, RunningAuth
from tests.support.browser import Browser, query_of
from tests.support.flows import CHALLENGE, HERE, NATIVE, REQUEST, VERIFIER, WEB, events, exchange, let_in, url_of


async def test_whole_flow(provider: RunningAuth, browser: Browser) -> None:
    """A person signs in and agrees; the client gets a code with its state and our issuer, and tokens that work."""
    await browser.open(url_of(REQUEST))
    assert "The web" in browser.page.text
    await browser.sign_in("admin", PASSWORD)
    assert "app.example" in browser.page.text
    assert "read your sessions" in browser.page.text
    await browser.submit("allow")
    assert browser.left is not None
    assert browser.left.startswith(f"{WEB}&")
    told = query_of(browser.left)
    assert set(told) == {"a", "code", "state", "iss"}
    assert (told["state"], told["iss"]) == ("s t&te", ISSUER)

    answer = await exchange(provider, told["code"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["scope"], body["token_type"]) == ("api:read", "bearer")
    assert (await provider.me(body["access_token"])).json()["username"] == "admin"
    claims = pyjwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["client_id"], claims["aud"]) == ("web", "codelab-api")
    refreshed = (await provider.refresh(body["refresh_token"], client_id="web")).json()
    assert refreshed["scope"] == "api:read"
    assert await events(provider) == ["login_success", "consent_given", "code_exchanged", "token_refresh"]
    everything = str(
        await provider.rows("SELECT * FROM audit_logs") + await provider.rows("SELECT * FROM oauth_clients")
    )
    assert told["code"] not in everything
    assert PASSWORD not in everything


async def test_nothing_is_kept_in_clear(provider: RunningAuth, browser: Browser) -> None:
    """The database knows the code and the cookie only by their hashes."""
    told = await let_in(browser)
    rows = str(await provider.rows("SELECT * FROM authorization_codes")) + str(
        await provider.rows("SELECT * FROM browser_sessions")
    )
    assert told["code"] not in rows
    assert browser.http.cookies["codelab"] not in rows


async def test_resource(provider: RunningAuth, browser: Browser) -> None:
    """The audience is decided with the request (RFC 8707), also when the exchange does not name it again."""
    told = await let_in(browser, resource=f"{ISSUER}/api/v1")
    body = (await exchange(provider, told["code"])).json()
    claims = pyjwt.decode(body["access_token"], options={"verify_signature": False})
    assert claims["aud"] == f"{ISSUER}/api/v1"
    assert (await provider.me(body["access_token"])).status_code == 200


async def test_people_agree_once_to_a_site(provider: RunningAuth, browser: Browser) -> None:
    """What was allowed is not asked again, for as much or less; more is, and then all of it is known."""
    await let_in(browser, scope="api:read api:write")
    for scope in ("api:read", "api:read api:write"):
        await browser.open(url_of(REQUEST, scope=scope))
        assert "code" in query_of(browser.left)
    await browser.open(url_of(REQUEST, scope="api:read openid"))
    assert browser.left is None
    await browser.submit("allow")
    (consent,) = await provider.rows("SELECT scope FROM consents")
    assert consent["scope"] == "api:read api:write openid"


async def test_people_agree_each_time_to_a_program(provider: RunningAuth, browser: Browser) -> None:
    """Nothing proves which program on a machine asks, so it is never let in unasked (RFC 8252 section 8.6)."""
    await let_in(browser, NATIVE)
    for _ in range(2):
        await browser.open(url_of(NATIVE))
        assert browser.left is None
        assert "a program on this computer (127.0.0.1:53123)" in browser.page.text
        await browser.submit("allow")
        assert browser.left is not None


async def test_a_person_says_no(provider: RunningAuth, browser: Browser) -> None:
    """The client hears access_denied, with state and issuer, and nothing was made."""
    await browser.open(url_of(REQUEST))
    await browser.sign_in("admin", PASSWORD)
    await browser.submit("deny")
    told = query_of(browser.left)
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", "s t&te", ISSUER)
    assert await provider.rows("SELECT id FROM authorization_codes") == []
    assert await events(provider) == ["login_success", "consent_denied"]


async def test_wrong_password(provider: RunningAuth, browser: Browser) -> None:
    """The page comes again with the name, says no more than that one of the two is wrong, and the next try works."""
    for name, password in (("admin", "wrong"), ("nobody", PASSWORD), ("admin", ""), ("admin", "x" * 2000)):
        await browser.open(url_of(REQUEST))
        page = await browser.sign_in(name, password)
        assert page.status_code == 403
        assert "is wrong" in page.text
        assert browser.read.forms[0].fields["username"] == name
    await browser.sign_in("admin", PASSWORD)
    assert "Allow access?" in browser.page.text
    assert (await events(provider)).count("login_failed") == 2


async def test_request_by_form(provider: RunningAuth, browser: Browser) -> None:
    """OpenID Connect Core section 3.1.2.1: a request may come with POST."""
    answer = await browser.http.post("/oauth/authorize", data=REQUEST)
    assert answer.status_code == 303
    await browser.open(answer.headers["Location"])
    await browser.sign_in("admin", PASSWORD)
    await browser.submit("allow")
    assert query_of(browser.left)["state"] == "s t&te"


async def test_request_by_form_that_is_no_header(provider: RunningAuth, browser: Browser) -> None:
    """What a form holds cannot add a header to the answer that turns it into a link."""
    body = b"client_id=web\r\nSet-Cookie: codelab=evil&state=\xc3\xa9"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await browser.http.post("/oauth/authorize", content=body, headers=kind)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (303, False)
    assert "\n" not in answer.headers["Location"]
    assert answer.headers["Location"].endswith("state=%C3%A9")


async def test_scope_of_a_person(provider: RunningAuth, browser: Browser) -> None:
    """Who is no administrator is not asked for that right and gives none; asked for it alone, the client is refused."""
    await provider.execute("UPDATE users SET is_admin = :no", no=False)
    told = await let_in(browser, scope="api:admin api:read")
    assert (await exchange(provider, told["code"])).json()["scope"] == "api:read"
    await browser.open(url_of(REQUEST, scope="api:admin"))
    assert query_of(browser.left)["error"] == "invalid_scope"


class TestPrompt:
    async def test_none(self, provider: RunningAuth, browser: Browser) -> None:
        """Nobody is asked anything: login_required, consent_required, or a code."""
        for expected in ("login_required", "consent_required", None):
            await browser.open(url_of(REQUEST, prompt="none"))
            told = query_of(browser.left)
            assert (told.get("error"), told["state"], told["iss"]) == (expected, "s t&te", ISSUER)
            await browser.open(url_of(REQUEST))
            if expected == "login_required":
                await browser.sign_in("admin", PASSWORD)
            elif expected == "consent_required":
                await browser.submit("allow")

    @pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
    async def test_login(self, provider: RunningAuth, browser: Browser, prompt: str) -> None:
        """Whoever is signed in signs in again, once."""
        await let_in(browser)
        first = await provider.rows("SELECT auth_time FROM browser_sessions")
        await browser.open(url_of(REQUEST, prompt=prompt))
        assert browser.left is None
        await browser.sign_in("admin", PASSWORD)
        if "consent" in prompt:
            assert browser.left is None
            await browser.submit("allow")
        assert "code" in query_of(browser.left)
        again = await provider.rows("SELECT auth_time FROM browser_sessions")
        assert len(again) == 1
        assert again != first

    async def test_consent(self, provider: RunningAuth, browser: Browser) -> None:
        """It is asked again."""
        await let_in(browser)
        await browser.open(url_of(REQUEST, prompt="consent"))
        assert browser.left is None
        await browser.submit("allow")
        assert "code" in query_of(browser.left)

    async def test_max_age(self, provider: RunningAuth, browser: Browser) -> None:
        """A sign-in that is older has to be made again; one that is not will do."""
        await let_in(browser)
        for max_age, asked in (("100", False), ("0", True)):
            await browser.open(url_of(REQUEST, max_age=max_age))
            assert (browser.left is None) is asked
        await browser.sign_in("admin", PASSWORD)
        assert "code" in query_of(browser.left)

    async def test_login_hint(self, provider: RunningAuth, browser: Browser) -> None:
        """The name is filled in, and is only text."""
        await browser.open(url_of(REQUEST, login_hint='"><script>alert(1)</script>'))
        assert browser.read.forms[0].fields["username"] == '"><script>alert(1)</script>'
        assert "script" not in browser.read.tags

    async def test_another_account(self, provider: RunningAuth, browser: Browser) -> None:
        """The page that asks for consent leads to signing in as somebody else, for the same request."""
        await browser.open(url_of(REQUEST, prompt="consent"))
        await browser.sign_in("admin", PASSWORD)
        (link,) = browser.read.links
        await browser.open(link)
        await browser.sign_in("admin", PASSWORD)
        await browser.submit("allow")
        assert "code" in query_of(browser.left)


REFUSED: list[tuple[dict[str, str | None], str]] = [
    ({"response_type": None}, "invalid_request"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code id_token"}, "unsupported_response_type"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": "s256"}, "invalid_request"),
    ({"code_challenge": "short"}, "invalid_request"),
    ({"code_challenge": CHALLENGE + "="}, "invalid_request"),
    ({"code_challenge": "é" * 43}, "invalid_request"),
    ({"scope": "nonsense"}, "invalid_scope"),
    ({"scope": " "}, "invalid_scope"),
    ({"resource": "https://other.example"}, "invalid_target"),
    ({"resource": f"{ISSUER}/api/v1#x"}, "invalid_target"),
    ({"prompt": "dance"}, "invalid_request"),
    ({"prompt": "none login"}, "invalid_request"),
    ({"max_age": "-1"}, "invalid_request"),
    ({"max_age": "soon"}, "invalid_request"),
    ({"max_age": "٣"}, "invalid_request"),
    ({"request": "e30.e30."}, "request_not_supported"),
    ({"request_uri": "https://app.example/r"}, "request_uri_not_supported"),
    ({"registration": "{}"}, "registration_not_supported"),
]


async def test_client_is_told_what_is_wrong(provider: RunningAuth, browser: Browser) -> None:
    """Where it is proven who asks, the browser brings the error of the RFC, with state and issuer, before any page."""
    for changes, code in REFUSED:
        await browser.open(url_of(REQUEST, **changes))
        assert str(browser.left).startswith(f"{WEB}&"), changes
        told = query_of(browser.left)
        assert (told["error"], told["state"], told["iss"]) == (code, "s t&te", ISSUER), changes
        assert told["error_description"], changes


async def test_repeated_parameters(provider: RunningAuth, browser: Browser) -> None:
    """RFC 6749 section 3.1: once each; who asks twice for where the answer goes gets none there."""
    await browser.open(f"{url_of(REQUEST)}&scope=api:write")
    assert query_of(browser.left)["error"] == "invalid_request"
    for name in ("client_id", "redirect_uri"):
        page = await browser.open(f"{url_of(REQUEST)}&{urlencode({name: REQUEST[name]})}")
        assert (browser.left, page.status_code) == (None, 400)


async def test_a_client_without_the_grant(provider: RunningAuth, browser: Browser) -> None:
    """It is told so."""
    await provider.client("other", "password", redirect_uris=[WEB])
    await browser.open(url_of(REQUEST, client_id="other"))
    assert query_of(browser.left)["error"] == "unauthorized_client"


UNPROVEN: list[tuple[dict[str, str | None], str]] = [
    ({"client_id": None}, "not known"),
    ({"client_id": "nobody"}, "not known"),
    ({"client_id": "<script>alert(1)</script>"}, "not known"),
    ({"client_id": "web\0"}, "cannot be read"),
    ({"redirect_uri": "https://app.example/cb"}, "not registered"),
    ({"redirect_uri": f"{WEB}&b=2"}, "not registered"),
    ({"redirect_uri": "https://app.example/cb?a=1#x"}, "not registered"),
    ({"redirect_uri": "https://APP.example/cb?a=1"}, "not registered"),
    ({"redirect_uri": "https://app.example:443/cb?a=1"}, "not registered"),
    ({"redirect_uri": "https://app.example@evil.example/cb?a=1"}, "not registered"),
    ({"redirect_uri": "javascript:alert(1)"}, "not registered"),
    ({"redirect_uri": HERE}, "not registered"),
    ({"state": "x" * 9000}, "cannot be read"),
]


async def test_a_person_is_told_what_is_wrong(provider: RunningAuth, browser: Browser) -> None:
    """Where it is not proven who asks, a page says why; the browser goes nowhere."""
    for changes, cause in UNPROVEN:
        page = await browser.open(url_of(REQUEST, **changes))
        assert (browser.left, page.status_code) == (None, 400), changes
        assert cause in page.text, changes
        assert "script" not in browser.read.tags
    await provider.execute("UPDATE oauth_clients SET is_active = :no", no=False)
    assert "not known" in (await browser.open(url_of(REQUEST))).text


async def test_only_redirect_uri_need_not_be_named(provider: RunningAuth, browser: Browser) -> None:
    """A client with one redirect URI may leave it out, and then does not show it at the exchange; with two it must."""
    told = await let_in(browser, redirect_uri=None)
    fields = {"grant_type": "authorization_code", "client_id": "web", "code": told["code"], "code_verifier": VERIFIER}
    assert (await provider.post("/oauth/token", **fields)).status_code == 200
    await provider.client("two", "authorization_code", redirect_uris=[WEB, "https://app.example/2"])
    page = await browser.open(url_of(REQUEST, client_id="two", redirect_uri=None))
    assert page.status_code == 400
