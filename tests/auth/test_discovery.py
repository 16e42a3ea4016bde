"""The documents from which a client learns everything: each field of them is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from tests.support.auth import CLIENT, ISSUER, RunningAuth, running_auth
from tests.support.browser import browsing, query_of
from tests.support.flows import REQUEST, WEB, url_of

if TYPE_CHECKING:
    from codelab.settings import AuthSettings

SERVER = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
RESOURCE = "/.well-known/oauth-protected-resource"


@pytest.fixture
def dialect() -> str:
    """The documents do not come from the database."""
    return "sqlite"


async def read(auth: RunningAuth, url: str) -> Any:
    """Fetch a document from its URL or path."""
    answer = await auth.http.get(url)
    assert answer.status_code == 200, (url, answer.text)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


class Walk:
    """Try what each field of the server's document says; a field without a method here is a defect."""

    def __init__(self, auth: RunningAuth, document: dict[str, Any]) -> None:
        self.auth = auth
        self.document = document

    async def all(self) -> None:
        """Walk through the document."""
        for field, value in self.document.items():
            await getattr(self, f"_{field}")(value)

    async def _issuer(self, value: Any) -> None:
        assert value == ISSUER
        token = (await self.auth.login()).json()["access_token"]
        assert pyjwt.decode(token, options={"verify_signature": False})["iss"] == value

    async def _token_endpoint(self, value: Any) -> None:
        assert (await self.auth.http.post(value)).json()["error"] == "invalid_request"

    async def _device_authorization_endpoint(self, value: Any) -> None:
        answer = await self.auth.post(value, client_id="codelab-cli")
        assert answer.json()["user_code"]

    async def _registration_endpoint(self, value: Any) -> None:
        assert value == f"{ISSUER}/oauth/register"
        assert (await self.auth.http.post(value, json={})).status_code == 401

    async def _userinfo_endpoint(self, value: Any) -> None:
        await self.auth.client("openid", "password")
        body = (await self.auth.login(client_id="openid", scope="openid")).json()
        answer = await self.auth.http.get(value, headers={"Authorization": f"Bearer {body['access_token']}"})
        assert set(answer.json()) == {"sub"}

    async def _end_session_endpoint(self, value: Any) -> None:
        assert "Nobody is signed in" in (await self.auth.http.get(value)).text

    async def _introspection_endpoint(self, value: Any) -> None:
        assert value == f"{ISSUER}/oauth/introspect"

    async def _introspection_endpoint_auth_methods_supported(self, value: Any) -> None:
        assert value == ["client_secret_basic", "client_secret_post"]
        await self.auth.client("asking", secret="s")
        url = self.document["introspection_endpoint"]
        assert (await self.auth.post(url, "asking", "s", token="x")).json() == {"active": False}
        post = await self.auth.post(url, client_id="asking", client_secret="s", token="x")
        assert post.json() == {"active": False}

    async def _revocation_endpoint(self, value: Any) -> None:
        assert value == f"{ISSUER}/oauth/revoke"

    async def _revocation_endpoint_auth_methods_supported(self, value: Any) -> None:
        assert value == ["none", "client_secret_basic", "client_secret_post"]
        url = self.document["revocation_endpoint"]
        await self.auth.client("ending", secret="s")
        assert (await self.auth.post(url, "ending", "s", token="x")).status_code == 200
        assert (await self.auth.post(url, client_id="ending", client_secret="s", token="x")).status_code == 200
        assert (await self.auth.post(url, client_id=CLIENT, token="x")).status_code == 200

    async def _subject_types_supported(self, value: Any) -> None:
        assert value == ["public"]

    async def _id_token_signing_alg_values_supported(self, value: Any) -> None:
        assert value == [pyjwt.get_unverified_header(await self._id_token())["alg"]]

    async def _claims_supported(self, value: Any) -> None:
        said = set(pyjwt.decode(await self._id_token(), options={"verify_signature": False}))
        assert said | {"nonce", "preferred_username", "email", "email_verified"} == set(value)

    async def _id_token(self) -> str:
        await self.auth.client("openid", "password")
        return str((await self.auth.login(client_id="openid", scope="openid")).json()["id_token"])

    async def _jwks_uri(self, value: Any) -> None:
        token = (await self.auth.login()).json()["access_token"]
        keys = pyjwt.PyJWKSet.from_dict(await read(self.auth, value))
        kid = pyjwt.get_unverified_header(token)["kid"]
        assert pyjwt.decode(token, keys[kid], algorithms=["ES256"], options={"verify_aud": False})

    async def _scopes_supported(self, value: Any) -> None:
        assert value == [
            *("openid", "profile", "email", "offline_access"),
            *("api:read", "api:write", "approvals:decide", "api:admin"),
        ]
        await self.auth.client("all", "password")
        body = (await self.auth.login(client_id="all", scope=" ".join(value))).json()
        assert set(body["scope"].split()) == set(value)

    async def _authorization_endpoint(self, value: Any) -> None:
        """The fields about it are tried together, with one client."""
        await self.auth.client("web", "authorization_code", redirect_uris=[WEB])
        assert value == f"{ISSUER}/oauth/authorize"
        async with browsing(self.auth.app) as browser:
            assert (await browser.open(url_of(REQUEST))).status_code == 200

    async def _told(self, **changes: str) -> dict[str, str]:
        async with browsing(self.auth.app) as browser:
            await browser.open(url_of(REQUEST, **changes))
            return query_of(browser.left) if browser.left else {}

    async def _response_types_supported(self, value: Any) -> None:
        assert value == ["code"]
        assert (await self._told(response_type="token"))["error"] == "unsupported_response_type"

    async def _response_modes_supported(self, value: Any) -> None:
        assert value == ["query"]
        assert await self._told(response_mode="query") == {}
        assert (await self._told(response_mode="fragment"))["error"] == "invalid_request"

    async def _code_challenge_methods_supported(self, value: Any) -> None:
        assert value == ["S256"]
        assert (await self._told(code_challenge_method="plain"))["error"] == "invalid_request"

    async def _authorization_response_iss_parameter_supported(self, value: Any) -> None:
        assert value is True
        assert (await self._told(prompt="none"))["iss"] == ISSUER

    async def _prompt_values_supported(self, value: Any) -> None:
        for prompt in value:
            told = await self._told(prompt=prompt)
            assert told.get("error") == ("login_required" if prompt == "none" else None)

    async def _ui_locales_supported(self, value: Any) -> None:
        async with browsing(self.auth.app) as browser:
            for language in value:
                page = await browser.open(url_of(REQUEST), **{"Accept-Language": language})
                assert page.headers["Content-Language"] == language

    async def _claims_parameter_supported(self, value: Any) -> None:
        assert value is False

    async def _request_parameter_supported(self, value: Any) -> None:
        assert value is False
        assert (await self._told(request="x"))["error"] == "request_not_supported"

    async def _request_uri_parameter_supported(self, value: Any) -> None:
        assert value is False
        assert (await self._told(request_uri="https://x"))["error"] == "request_uri_not_supported"

    async def _grant_types_supported(self, value: Any) -> None:
        for grant in value:
            answer = await self.auth.token(grant_type=grant)
            assert answer.json()["error"] != "unsupported_grant_type", grant
        for grant in {"password", "refresh_token", "client_credentials", "implicit"} - set(value):
            assert (await self.auth.token(grant_type=grant)).json()["error"] == "unsupported_grant_type"

    async def _token_endpoint_auth_methods_supported(self, value: Any) -> None:
        assert value == ["none", "client_secret_basic", "client_secret_post"]
        await self.auth.client("machine", "client_credentials", secret="s")
        asked = {"grant_type": "client_credentials"}
        assert (await self.auth.login()).status_code == 200
        assert (await self.auth.post("/oauth/token", "machine", "s", **asked)).status_code == 200
        post = await self.auth.post("/oauth/token", client_id="machine", client_secret="s", **asked)
        assert post.status_code == 200

    async def _client_id_metadata_document_supported(self, value: Any) -> None:
        # Nobody is signed in, so the client's document is asked for only after they are.
        query = {"client_id": "https://client.example/client.json", "response_type": "code"}
        answer = await self.auth.http.get("/oauth/authorize", params=query)
        assert (value, answer.status_code) == (True, 200)

    async def _protected_resources(self, value: Any) -> None:
        assert value == [(await read(self.auth, RESOURCE))["resource"]]


async def test_every_field_is_true(auth: RunningAuth) -> None:
    """Whatever the document of the server says is tried and holds."""
    document = await read(auth, SERVER)
    await Walk(auth, document).all()
    assert document == await read(auth, OPENID)


async def test_the_api_says_who_gives_tokens(auth: RunningAuth) -> None:
    """A refused caller finds the document of the API, from it the server, and a token for it that the API takes."""
    refused = await auth.http.get("/me")
    assert refused.status_code == 401
    _, _, url = refused.headers["WWW-Authenticate"].partition('resource_metadata="')
    document = await read(auth, url.rstrip('"'))
    assert document == await read(auth, RESOURCE)
    assert document["scopes_supported"] == ["api:read", "api:write", "approvals:decide"]
    assert document["bearer_methods_supported"] == ["header"]
    assert document["resource_name"] == "codelab"
    (issuer,) = document["authorization_servers"]
    server = await read(auth, issuer + SERVER)
    assert server["issuer"] == issuer
    fields = {"grant_type": "password", "client_id": CLIENT, "username": "admin", "resource": document["resource"]}
    token = await auth.http.post(server["token_endpoint"], data={**fields, "password": str(auth.settings.master_key)})
    assert (await auth.me(token.json()["access_token"])).status_code == 200


async def test_challenges_keep_what_they_say(auth: RunningAuth) -> None:
    """A bad token and a missing scope get their error and the address; the token endpoint's own challenge stays."""
    bad = await auth.me("x")
    assert bad.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token", ')
    assert bad.headers["WWW-Authenticate"].endswith(f', resource_metadata="{ISSUER}{RESOURCE}/api/v1"')
    login = await auth.login(password="wrong")
    assert login.headers["WWW-Authenticate"] == "Bearer"


async def test_issuer_with_a_path(settings: AuthSettings) -> None:
    """Its documents are where the RFCs insert the path, and name addresses below it."""
    async with running_auth(settings, issuer="https://example.com/code/lab/") as auth:
        for path in (SERVER, f"{SERVER}/code/lab", OPENID, f"{OPENID}/code/lab"):
            document = await read(auth, path)
            assert document["issuer"] == "https://example.com/code/lab/"
            assert document["token_endpoint"] == "https://example.com/code/lab/oauth/token"
        for path in (RESOURCE, f"{RESOURCE}/code/lab/api/v1"):
            assert (await read(auth, path))["resource"] == "https://example.com/code/lab/api/v1"
        challenge = (await auth.http.get("/me")).headers["WWW-Authenticate"]
        assert challenge == f'Bearer resource_metadata="https://example.com{RESOURCE}/code/lab/api/v1"'


OPEN = (
    "/oauth/token",
    "/oauth/register",
    "/oauth/device_authorization",
    "/oauth/revoke",
    "/oauth/userinfo",
    "/.well-known/jwks.json",
    SERVER,
    OPENID,
    RESOURCE,
    f"{RESOURCE}/api/v1",
)


@pytest.mark.parametrize("path", OPEN)
async def test_browsers_may_ask(auth: RunningAuth, path: str) -> None:
    """Scripts of any origin may read the answer, errors too, and ask beforehand; cookies are never allowed."""
    headers = {"Origin": "https://app.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    before = await auth.http.options(path, headers=headers | asked)
    assert before.status_code == 204
    assert "POST" in before.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in before.headers["Access-Control-Allow-Headers"]
    answer = await (auth.http.post(path, headers=headers) if path in OPEN[:5] else auth.http.get(path, headers=headers))
    for each in (before, answer):
        assert each.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in each.headers


@pytest.mark.parametrize("path", ["/me", "/public", "/oauth/authorize", "/oauth/introspect", "/oauth/sign-in"])
async def test_browsers_may_not_ask_elsewhere(auth: RunningAuth, path: str) -> None:
    """A script of another origin learns nothing from the API, and nothing from what people see."""
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    for answer in (await auth.http.options(path, headers=headers), await auth.http.get(path, headers=headers)):
        assert "Access-Control-Allow-Origin" not in answer.headers
