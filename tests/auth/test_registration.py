"""Clients that register themselves (RFC 7591)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab.auth import registration
from codelab.db import now
from tests.auth.test_cleaning import run, set_time
from tests.support.auth import RunningAuth, running_auth
from tests.support.flows import REQUEST, VERIFIER, WEB, let_in

if TYPE_CHECKING:
    from codelab.settings import AuthSettings
    from tests.support.browser import Browser


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """Everybody may register."""
    return replace(settings, registration="open")


async def register(auth: RunningAuth, **members: Any) -> Any:
    """Register a client."""
    answer = await auth.http.post("/oauth/register", json={"redirect_uris": [WEB]} | members)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


async def test_defaults(auth: RunningAuth) -> None:
    """A client that says only where answers go gets a secret, the code grant, and all scopes but to administer."""
    said = await register(auth)
    assert said["redirect_uris"] == [WEB]
    assert said["grant_types"] == ["authorization_code"]
    assert said["response_types"] == ["code"]
    assert said["token_endpoint_auth_method"] == "client_secret_basic"
    assert len(said["client_secret"]) >= 43
    assert said["client_secret_expires_at"] == 0
    assert "api:admin" not in said["scope"].split()
    assert {"openid", "api:read", "approvals:decide"} <= set(said["scope"].split())
    (row,) = await auth.rows("SELECT * FROM oauth_clients WHERE client_id = :id", id=said["client_id"])
    assert said["client_secret"] not in str(row)
    (event,) = await auth.rows("SELECT * FROM audit_logs")
    assert (event["event_type"], event["client_id"]) == ("client_registered", said["client_id"])
    assert said["client_secret"] not in str(event)


async def test_whole_flow_of_a_public_client(auth: RunningAuth, browser: Browser) -> None:
    """It can do what it registered for; the person is told that nobody checked its name."""
    said = await register(
        auth,
        client_name="Editor <b>1</b>",
        client_uri="https://editor.example",
        grant_types=["authorization_code", "refresh_token", "password", "implicit"],
        response_types=["code", "token"],
        token_endpoint_auth_method="none",
        redirect_uris=[WEB, "http://127.0.0.1/cb", "com.example.editor:/cb"],
        scope="api:read api:admin unknown openid",
        logo_uri="https://editor.example/logo.png",
        jwks={"keys": []},
        **{"client_name#ru": "Редактор"},
    )
    assert "client_secret" not in said
    assert said["grant_types"] == ["authorization_code", "refresh_token"]
    assert said["scope"] == "openid api:read"
    assert (said["client_name"], said["client_uri"]) == ("Editor <b>1</b>", "https://editor.example")
    assert "logo_uri" not in said
    request = REQUEST | {"client_id": said["client_id"], "scope": "openid api:read"}
    told = await let_in(browser, request)
    assert any("registered itself" in page.text and "&lt;b&gt;" in page.text for page in browser.seen)
    fields = {"client_id": said["client_id"], "redirect_uri": WEB, "code_verifier": VERIFIER, "code": told["code"]}
    body = (await auth.post("/oauth/token", grant_type="authorization_code", **fields)).json()
    assert (await auth.me(body["access_token"])).status_code == 200
    assert (await auth.refresh(body["refresh_token"], client_id=said["client_id"])).status_code == 200


async def test_registered_method_is_the_only_one(auth: RunningAuth) -> None:
    """A client that registered for Basic cannot send its secret in the form, and none of them acts for itself."""
    said = await register(auth)
    asked = {"grant_type": "client_credentials"}
    basic = await auth.post("/oauth/token", said["client_id"], said["client_secret"], **asked)
    assert (basic.status_code, basic.json()["error"]) == (400, "unauthorized_client")
    post = await auth.post("/oauth/token", client_id=said["client_id"], client_secret=said["client_secret"], **asked)
    assert (post.status_code, post.json()["error"]) == (401, "invalid_client")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"redirect_uris": None}, "invalid_redirect_uri"),
    ({"redirect_uris": []}, "invalid_redirect_uri"),
    ({"redirect_uris": WEB}, "invalid_client_metadata"),
    ({"redirect_uris": [1]}, "invalid_client_metadata"),
    ({"redirect_uris": ["http://app.example/cb"]}, "invalid_redirect_uri"),
    ({"redirect_uris": [WEB, "https://app.example/#x"]}, "invalid_redirect_uri"),
    ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
    ({"redirect_uris": ["https://app.example/\0"]}, "invalid_redirect_uri"),
    ({"redirect_uris": ["https://app.example/é"]}, "invalid_redirect_uri"),
    ({"redirect_uris": [f"{WEB}{n}" for n in range(21)]}, "invalid_redirect_uri"),
    ({"redirect_uris": ["https://app.example/" + "x" * 3000]}, "invalid_redirect_uri"),
    ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
    ({"grant_types": ["refresh_token"]}, "invalid_client_metadata"),
    ({"grant_types": []}, "invalid_client_metadata"),
    ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
    ({"response_types": ["token"]}, "invalid_client_metadata"),
    ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
    ({"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata"),
    ({"client_name": 5}, "invalid_client_metadata"),
    ({"client_name": "x" * 101}, "invalid_client_metadata"),
    ({"client_name": "a\0b"}, "invalid_client_metadata"),
    ({"client_name": "a\nb"}, "invalid_client_metadata"),
    ({"client_name": "\u202emoc.elgoog"}, "invalid_client_metadata"),
    ({"client_name": "\ud800"}, "invalid_client_metadata"),
    ({"client_uri": "javascript:alert(1)"}, "invalid_client_metadata"),
    ({"client_uri": "https://[x"}, "invalid_client_metadata"),
    ({"scope": ["api:read"]}, "invalid_client_metadata"),
]


async def test_what_cannot_be_registered(auth: RunningAuth) -> None:
    """Each mistake gets the error of section 3.2.2, and no client is made."""
    before = await auth.rows("SELECT id FROM oauth_clients")
    for members, error in REFUSED:
        content = json.dumps({"redirect_uris": [WEB]} | members)
        answer = await auth.http.post("/oauth/register", content=content)
        assert (answer.status_code, answer.json()["error"]) == (400, error), members
    for body in (b"", b"[]", b"{", b"null", b"\xff", b"[" * 5000):
        answer = await auth.http.post("/oauth/register", content=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata"), body[:10]
    assert (await auth.http.post("/oauth/register", content=b"x" * 70_000)).status_code == 413
    assert await auth.rows("SELECT id FROM oauth_clients") == before


async def test_unused_clients_are_dropped(auth: RunningAuth, browser: Browser) -> None:
    """One that was given no token goes after seven days; one that was stays, however old."""
    used = await register(auth, token_endpoint_auth_method="none")
    unused = await register(auth)
    told = await let_in(browser, client_id=used["client_id"])
    fields = {"client_id": used["client_id"], "redirect_uri": WEB, "code_verifier": VERIFIER, "code": told["code"]}
    assert (await auth.post("/oauth/token", grant_type="authorization_code", **fields)).status_code == 200
    for age, expected in ((timedelta(days=6), 0), (timedelta(days=8), 1)):
        await set_time(auth, "UPDATE oauth_clients SET created_at = :at", now() - age)
        assert (await run(auth))["unused clients"] == expected
    left = {row["client_id"] for row in await auth.rows("SELECT client_id FROM oauth_clients")}
    assert used["client_id"] in left
    assert unused["client_id"] not in left
    assert len(left) == 3


async def test_registrations_are_bounded(auth: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can fill the database with clients that are not in use."""
    monkeypatch.setattr(registration, "MOST_UNUSED", 3)
    for _ in range(3):
        await register(auth)
    refused = await auth.http.post("/oauth/register", json={"redirect_uris": [WEB]})
    assert refused.json()["error"] == "temporarily_unavailable"


async def test_with_a_token(settings: AuthSettings) -> None:
    """Unless registration is open it needs an access token of an administrator that is for it."""
    async with running_auth(replace(settings, registration="token")) as auth:
        await auth.client("console", "password")
        tokens = [(await auth.login(client_id="console", scope=s)).json() for s in ("api:read", "api:admin")]
        for token, status in ((None, 401), (tokens[0], 403), (tokens[1], 201)):
            headers = {"Authorization": f"Bearer {token['access_token']}"} if token else {}
            answer = await auth.http.post("/oauth/register", json={"redirect_uris": [WEB]}, headers=headers)
            assert answer.status_code == status, answer.text
            assert ("WWW-Authenticate" in answer.headers) is (status != 201)
        await auth.execute("UPDATE users SET is_admin = :no", no=False)
    async with running_auth(replace(settings, registration="token")) as auth:
        headers = {"Authorization": f"Bearer {tokens[1]['access_token']}"}
        answer = await auth.http.post("/oauth/register", json={"redirect_uris": [WEB]}, headers=headers)
        assert answer.status_code == 403


async def test_off(settings: AuthSettings) -> None:
    """Then there is no such endpoint, and the document does not name one."""
    async with running_auth(replace(settings, registration="off")) as auth:
        assert (await auth.http.post("/oauth/register", json={"redirect_uris": [WEB]})).status_code == 404
        document = (await auth.http.get("/.well-known/oauth-authorization-server")).json()
        assert "registration_endpoint" not in document
