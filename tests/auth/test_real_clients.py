"""Clients that others wrote, each through a whole flow, from nothing but an address."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from tests.support.auth import ISSUER, PASSWORD, RunningAuth
from tests.support.browser import Browser, query_of
from tests.support.flows import VERIFIER, WEB

if TYPE_CHECKING:
    from codelab.settings import AuthSettings

HERE = "http://localhost:3030/callback"


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """Everybody may register."""
    return replace(settings, registration="open")


def transport(auth: RunningAuth) -> httpx2.ASGITransport:
    """Reach the module in process."""
    return httpx2.ASGITransport(cast("Any", auth.app))  # the two libraries type ASGI in their own ways


async def decide(browser: Browser, url: str) -> str:
    """Do what a person does, and return where the browser was sent."""
    await browser.open(url)
    if browser.left is None and "password" in browser.read.forms[0].fields:
        await browser.sign_in("admin", PASSWORD)
    if browser.left is None:
        await browser.submit("allow")
    assert browser.left is not None
    return browser.left


class TestAuthlib:
    @pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post"])
    async def test_code_flow(self, auth: RunningAuth, browser: Browser, method: str) -> None:
        """Discovery, PKCE, exchange, ID token, userinfo, refresh, introspection and revocation."""
        secret = (
            None if method == "none" else "s-e_c~ret"
        )  # it does not encode the halves of Basic, as RFC 6749 asks for
        await auth.client("web", "authorization_code", "refresh_token", secret=secret, redirect_uris=[WEB])
        server = (await auth.http.get("/.well-known/openid-configuration")).json()
        async with AsyncOAuth2Client(
            "web",
            secret,
            redirect_uri=WEB,
            scope="openid profile api:read",
            token_endpoint_auth_method=method,
            code_challenge_method="S256",
            token_endpoint=server["token_endpoint"],
            transport=transport(auth),
            base_url=ISSUER,
        ) as client:
            url, state = client.create_authorization_url(
                server["authorization_endpoint"], code_verifier=VERIFIER, nonce="n"
            )
            answer = await decide(browser, url)
            token = await client.fetch_token(authorization_response=answer, state=state, code_verifier=VERIFIER)

            keys = KeySet.import_key_set((await auth.http.get(server["jwks_uri"])).json())
            claims = jwt.decode(token["id_token"], keys, algorithms=["ES256"]).claims
            options = {"iss": {"value": server["issuer"]}, "aud": {"value": "web"}}
            params = {"nonce": "n", "client_id": "web", "access_token": token["access_token"]}
            CodeIDToken(claims, {"alg": "ES256"}, options, params).validate()
            assert (await client.get(server["userinfo_endpoint"])).json()["preferred_username"] == "admin"
            assert (await client.get("/me")).json()["username"] == "admin"

            client.token["expires_at"] = 0
            assert (await client.get("/me")).json()["username"] == "admin"
            refreshed = client.token
            assert refreshed["refresh_token"] != token["refresh_token"]

            if secret:
                described = await client.introspect_token(
                    server["introspection_endpoint"], token=refreshed["access_token"]
                )
                assert described.json()["username"] == "admin"
            ended = await client.revoke_token(server["revocation_endpoint"], token=refreshed["refresh_token"])
            assert ended.status_code == 200
            assert (await client.get("/me")).status_code == 401

    async def test_client_credentials(self, auth: RunningAuth) -> None:
        """A program of its own gets a token, and another one when it has expired."""
        await auth.client("machine", "client_credentials", secret="m")
        async with AsyncOAuth2Client(
            "machine",
            "m",
            scope="api:read",
            token_endpoint=f"{ISSUER}/oauth/token",
            grant_type="client_credentials",
            transport=transport(auth),
            base_url=ISSUER,
        ) as client:
            await client.fetch_token()
            assert (await client.get("/me")).json()["subject"] == "machine"
            client.token["expires_at"] = 0
            assert (await client.get("/me")).json()["subject"] == "machine"

    async def test_password(self, auth: RunningAuth) -> None:
        """The reference's grant works with it, and a refusal is one that it understands."""
        async with AsyncOAuth2Client(
            "codelab-flutter-app", token_endpoint_auth_method="none", transport=transport(auth), base_url=ISSUER
        ) as client:
            with pytest.raises(OAuthError) as refused:
                await client.fetch_token(f"{ISSUER}/oauth/token", username="admin", password="wrong")
            assert refused.value.error == "invalid_grant"
            await client.fetch_token(f"{ISSUER}/oauth/token", username="admin", password=PASSWORD)
            assert (await client.get("/me")).json()["username"] == "admin"


class _Storage:
    """What an MCP client keeps."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@pytest.mark.parametrize("method", [None, "none", "client_secret_post", "client_secret_basic"])
async def test_mcp(auth: RunningAuth, browser: Browser, method: Any) -> None:
    """The MCP SDK finds the server from a 401, registers, lets a person decide, and refreshes.

    Its tokens are for the API by name (RFC 8707).
    """
    left: list[str] = []

    async def redirect(url: str) -> None:
        left.append(await decide(browser, url))

    async def callback() -> AuthorizationCodeResult:
        told = query_of(left[-1])
        return AuthorizationCodeResult(code=told["code"], state=told["state"], iss=told["iss"])

    storage = _Storage()
    provider = OAuthClientProvider(
        f"{ISSUER}/api/v1/me",
        OAuthClientMetadata(
            client_name="An MCP client", redirect_uris=[AnyUrl(HERE)], token_endpoint_auth_method=method
        ),
        storage,
        redirect,
        callback,
    )
    async with httpx2.AsyncClient(auth=provider, transport=transport(auth), base_url=ISSUER) as client:
        me = await client.get("/api/v1/me")
        assert (me.status_code, me.json()["username"]) == (200, "admin")
        assert storage.tokens is not None
        assert storage.tokens.refresh_token
        claims = jwt.decode(
            storage.tokens.access_token,
            KeySet.import_key_set(cast("Any", auth.module._keys.public_set())),
            algorithms=["ES256"],
        ).claims
        assert claims["aud"] == f"{ISSUER}/api/v1"
        assert {"api:read", "api:write"} <= set(claims["scope"].split())
        assert "api:admin" not in claims["scope"]

        first = storage.tokens.access_token
        provider.context.token_expiry_time = 1.0
        assert (await client.get("/api/v1/me")).status_code == 200
        assert storage.tokens.access_token != first
        assert len(left) == 1
