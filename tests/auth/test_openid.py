"""Who logged in: the ID token and userinfo (OpenID Connect Core 1.0)."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import jwt as pyjwt

from tests.support.auth import ISSUER, PASSWORD
from tests.support.flows import exchange, let_in

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth
    from tests.support.browser import Browser


async def verified(auth: RunningAuth, id_token: str, client_id: str = "web") -> dict[str, Any]:
    """Check an ID token as a client does that has only the keys."""
    keys = pyjwt.PyJWKSet.from_dict((await auth.http.get("/.well-known/jwks.json")).json())
    key = keys[pyjwt.get_unverified_header(id_token)["kid"]]
    claims: dict[str, Any] = pyjwt.decode(id_token, key, algorithms=["ES256"], audience=client_id, issuer=ISSUER)
    return claims


async def userinfo(auth: RunningAuth, token: str) -> Any:
    """Ask who logged in."""
    return await auth.http.get("/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})


async def test_id_token(provider: RunningAuth, browser: Browser) -> None:
    """It says who, when and for which request, is bound to the access token, and its signature holds."""
    told = await let_in(browser, scope="openid api:read", nonce="n-0S6_WzA2Mj")
    body = (await exchange(provider, told["code"])).json()
    claims = await verified(provider, body["id_token"])
    (browser_session,) = await provider.rows("SELECT user_id FROM browser_sessions")
    assert claims["sub"] == browser_session["user_id"]
    assert claims["nonce"] == "n-0S6_WzA2Mj"
    assert 0 <= claims["iat"] - claims["auth_time"] < 600
    digest = hashlib.sha256(body["access_token"].encode()).digest()
    assert claims["at_hash"] == urlsafe_b64encode(digest[:16]).decode().rstrip("=")
    assert claims["exp"] - claims["iat"] == body["expires_in"]


async def test_refreshed_id_token(provider: RunningAuth, browser: Browser) -> None:
    """Section 12.2: the same person, audience and time of login, for the new access token."""
    told = await let_in(browser, scope="openid api:read", nonce="n")
    first = (await exchange(provider, told["code"])).json()
    second = (await provider.refresh(first["refresh_token"], client_id="web")).json()
    before, after = await verified(provider, first["id_token"]), await verified(provider, second["id_token"])
    for name in ("iss", "sub", "aud", "auth_time"):
        assert before[name] == after[name]
    assert before["at_hash"] != after["at_hash"]
    assert "nonce" not in after


async def test_only_when_asked_for(provider: RunningAuth, browser: Browser) -> None:
    """Without the scope openid there is no ID token, and userinfo is refused."""
    told = await let_in(browser, scope="api:read")
    body = (await exchange(provider, told["code"])).json()
    assert "id_token" not in body
    refused = await userinfo(provider, body["access_token"])
    assert refused.status_code == 403
    assert 'error="insufficient_scope", scope="openid"' in refused.headers["WWW-Authenticate"]


async def test_id_token_is_no_access_token(provider: RunningAuth, browser: Browser) -> None:
    """The API refuses it."""
    told = await let_in(browser, scope="openid")
    body = (await exchange(provider, told["code"])).json()
    assert (await provider.me(body["id_token"])).status_code == 401
    assert (await userinfo(provider, body["id_token"])).status_code == 401


async def test_userinfo(provider: RunningAuth, browser: Browser) -> None:
    """It tells as much as the scopes allow, with GET and POST, about the person of the ID token."""
    said: dict[str, Any] = {}
    for scope, names in (
        ("openid", set()),
        ("openid profile", {"preferred_username"}),
        ("openid email profile", {"preferred_username", "email", "email_verified"}),
    ):
        told = await let_in(browser, scope=scope)
        body = (await exchange(provider, told["code"])).json()
        said = (await userinfo(provider, body["access_token"])).json()
        assert set(said) == {"sub"} | names
        assert said["sub"] == (await verified(provider, body["id_token"]))["sub"]
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        posted = await provider.http.post("/oauth/userinfo", headers=headers)
        assert posted.json() == said
        assert posted.headers["Cache-Control"] == "no-store"
    assert said["preferred_username"] == "admin"
    assert (said["email"], said["email_verified"]) == ("admin@codelab.local", True)


async def test_userinfo_without_a_token(provider: RunningAuth) -> None:
    """It is refused with a bare challenge (RFC 6750 section 3); a program of its own is no person."""
    refused = await provider.http.get("/oauth/userinfo")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_password_grant(provider: RunningAuth) -> None:
    """It too gives an ID token to who asks for openid."""
    await provider.client("own", "password")
    body = (await provider.login("admin", PASSWORD, client_id="own", scope="openid")).json()
    assert (await verified(provider, body["id_token"], "own"))["sub"]
