"""Exchanging an authorization code: once, by the client that asked, with its proof."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.flows import CHALLENGE, REQUEST, VERIFIER, WEB, events, exchange, let_in, url_of

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth
    from tests.support.browser import Browser


async def test_once(provider: RunningAuth, browser: Browser) -> None:
    """A code is good once; when it comes back, what it was exchanged for ends, and the trail says so."""
    code = (await let_in(browser))["code"]
    body = (await exchange(provider, code)).json()
    again = await exchange(provider, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    refused = await provider.refresh(body["refresh_token"], client_id="web")
    assert refused.json()["error"] == "invalid_grant"
    assert (await events(provider))[-1] == "code_reuse"


async def test_in_parallel(provider: RunningAuth, browser: Browser) -> None:
    """Of 30 who show the same code at once, one gets tokens."""
    code = (await let_in(browser))["code"]
    answers = await asyncio.gather(*(exchange(provider, code) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 29]
    assert len(await provider.rows("SELECT id FROM refresh_tokens")) == 1


async def test_slips_do_not_use_it_up(provider: RunningAuth, browser: Browser) -> None:
    """Who shows a wrong verifier or redirect URI, or another client's code, is refused; the right one works."""
    code = (await let_in(browser))["code"]
    wrong: list[tuple[dict[str, str], str]] = [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": CHALLENGE}, "invalid_grant"),
        ({"code_verifier": "é" * 43}, "invalid_grant"),
        ({"redirect_uri": "https://app.example/cb"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_grant"),
        ({"client_id": "native"}, "invalid_grant"),
        ({"code": ""}, "invalid_request"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"resource": "https://other.example"}, "invalid_target"),
    ]
    for changes, error in wrong:
        answer = await exchange(provider, code, **changes)
        assert (answer.status_code, answer.json()["error"]) == (400, error), changes
    assert (await exchange(provider, code)).status_code == 200


async def test_expired(provider: RunningAuth, browser: Browser) -> None:
    """A code lives for a minute."""
    code = (await let_in(browser))["code"]
    (row,) = await provider.rows("SELECT created_at FROM consents")
    await provider.execute("UPDATE authorization_codes SET expires_at = :then", then=row["created_at"])
    assert "expired" in (await exchange(provider, code)).json()["error_description"]


async def test_disabled_user(provider: RunningAuth, browser: Browser) -> None:
    """Who was disabled meanwhile is not let in, by neither the code nor the browser."""
    code = (await let_in(browser))["code"]
    await provider.execute("UPDATE users SET is_active = :no", no=False)
    assert (await exchange(provider, code)).json()["error"] == "invalid_grant"
    await browser.open(url_of(REQUEST))
    assert "password" in browser.read.forms[0].fields


async def test_confidential_client(provider: RunningAuth, browser: Browser) -> None:
    """One with a secret shows it too, beside PKCE."""
    await provider.client("secret", "authorization_code", secret="s", redirect_uris=[WEB])
    code = (await let_in(browser, client_id="secret"))["code"]
    assert (await exchange(provider, code, client_id="secret")).json()["error"] == "invalid_client"
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": WEB, "code_verifier": VERIFIER}
    body = (await provider.post("/oauth/token", "secret", "s", **fields)).json()
    assert "refresh_token" not in body
    assert (await provider.me(body["access_token"])).status_code == 200
