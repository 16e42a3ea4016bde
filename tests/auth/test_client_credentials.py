"""A program that acts for itself, with a secret and without any person (RFC 6749 section 4.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from tests.support.auth import ISSUER, RunningAuth, running_auth

if TYPE_CHECKING:
    from codelab.settings import AuthSettings

SECRET = "s+e: c%41é"
API = f"{ISSUER}/api/v1"


@pytest.fixture
async def machine(auth: RunningAuth) -> RunningAuth:
    """The module with a client ``machine`` that has the grant."""
    await auth.client("machine", "client_credentials", "refresh_token", secret=SECRET)
    return auth


def claims(token: str) -> dict[str, Any]:
    """Read a token without checking it."""
    read: dict[str, Any] = pyjwt.decode(token, options={"verify_signature": False})
    return read


async def ask(auth: RunningAuth, **fields: str) -> Any:
    """Ask for a token with HTTP Basic."""
    return await auth.post("/oauth/token", "machine", SECRET, grant_type="client_credentials", **fields)


async def test_a_program_acts_for_itself(machine: RunningAuth) -> None:
    """Its token names it as subject and client, has its default scopes, works, and comes without a refresh token."""
    answer = await ask(machine)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["scope"], body["expires_in"]) == ("api:read api:write", 600)
    said = claims(body["access_token"])
    assert said["sub"] == said["client_id"] == "machine"
    assert said["exp"] - said["iat"] == 600
    me = (await machine.me(body["access_token"])).json()
    assert (me["subject"], me["username"], sorted(me["scopes"])) == ("machine", "machine", ["api:read", "api:write"])
    (row,) = await machine.rows("SELECT * FROM audit_logs")
    assert (row["event_type"], row["client_id"], row["user_id"]) == ("client_login", "machine", None)
    assert await machine.rows("SELECT id FROM refresh_tokens") == []


async def test_a_disabled_program_is_refused(machine: RunningAuth) -> None:
    """It gets no token, and one that it has ends within the second that a cache may be old."""
    token = (await ask(machine)).json()["access_token"]
    await machine.execute("UPDATE oauth_clients SET is_active = :no", no=False)
    assert (await ask(machine)).json()["error"] == "invalid_grant"
    assert (await machine.me(token)).status_code == 401


async def test_scopes_of_a_program(machine: RunningAuth) -> None:
    """What is about a person is refused when asked for, and left out of the defaults."""
    assert (await ask(machine, scope="api:admin api:read")).json()["scope"] == "api:admin api:read"
    refused = (await ask(machine, scope="openid api:read")).json()
    assert (refused["error"], "openid" in refused["error_description"]) == ("invalid_scope", True)
    await machine.execute("UPDATE oauth_clients SET default_scopes = 'openid email api:read'")
    assert (await ask(machine)).json()["scope"] == "api:read"
    await machine.execute("UPDATE oauth_clients SET default_scopes = 'openid'")
    assert (await ask(machine)).json()["error"] == "invalid_scope"


async def test_public_client_cannot_act_for_itself(auth: RunningAuth) -> None:
    """Whoever knows the name of a public client is not it."""
    await auth.client("public", "client_credentials")
    refused = await auth.post("/oauth/token", grant_type="client_credentials", client_id="public")
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
async def test_registered_method_is_the_only_one(machine: RunningAuth, method: str) -> None:
    """A client that registered for one way of showing its secret is refused in another."""
    await machine.execute("UPDATE oauth_clients SET token_endpoint_auth_method = :method", method=method)
    basic = await ask(machine)
    fields = {"grant_type": "client_credentials", "client_id": "machine", "client_secret": SECRET}
    post = await machine.post("/oauth/token", **fields)
    shown = {"client_secret_basic": basic, "client_secret_post": post}
    for name, answer in shown.items():
        expected = (200, None) if name == method else (401, "invalid_client")
        assert (answer.status_code, answer.json().get("error")) == expected, name


class TestResource:
    async def test_our_api_is_the_resource(self, machine: RunningAuth) -> None:
        """With ``resource`` the token is for that URI, without for the default audience; our API takes both."""
        for resource, audience in ((None, "codelab-api"), (API, API)):
            body = (await ask(machine, **({"resource": resource} if resource else {}))).json()
            assert claims(body["access_token"])["aud"] == audience
            assert (await machine.me(body["access_token"])).status_code == 200

    async def test_the_same_resource_twice(self, machine: RunningAuth) -> None:
        """The parameter may be repeated (RFC 8707 section 2)."""
        answer = await machine.http.post(
            "/oauth/token",
            content=f"grant_type=client_credentials&client_id=machine&client_secret=s%2Be%3A+c%2541%C3%A9"
            f"&resource={API}&resource={API}".encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert claims(answer.json()["access_token"])["aud"] == API

    @pytest.mark.parametrize(
        "resource", [API + "/", API.upper(), "/api/v1", ISSUER, "codelab-api", f"{API}#x", f"{API} https://other"]
    )
    async def test_other_resources_are_refused(self, machine: RunningAuth, resource: str) -> None:
        """A token for a resource that is not exactly ours is not made: invalid_target."""
        refused = await ask(machine, resource=resource)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")

    async def test_refresh_keeps_the_resource(self, auth: RunningAuth) -> None:
        """What was asked for at the login holds for every token of the family."""
        first = (await auth.login(resource=API)).json()
        second = (await auth.refresh(first["refresh_token"])).json()
        for body in (first, second):
            assert claims(body["access_token"])["aud"] == API
            assert (await auth.me(body["access_token"])).status_code == 200
        refused = await auth.refresh(second["refresh_token"], resource="https://other")
        assert refused.json()["error"] == "invalid_target"
        assert (await auth.refresh(second["refresh_token"], resource=API)).status_code == 200


class TestAdministration:
    async def test_only_administrators_are_given_it(self, auth: RunningAuth) -> None:
        """Somebody who is no administrator gets the rest of what they asked for, and loses it with the office."""
        await auth.client("console", "password")
        body = (await auth.login(client_id="console", scope="api:admin api:read")).json()
        assert body["scope"] == "api:admin api:read"
        assert sorted((await auth.me(body["access_token"])).json()["scopes"]) == ["api:admin", "api:read"]
        await auth.execute("UPDATE users SET is_admin = :no", no=False)
        auth.module._principals._known._values.clear()  # as a second later
        assert (await auth.me(body["access_token"])).json()["scopes"] == ["api:read"]
        again = await auth.login(client_id="console", scope="api:admin api:read")
        assert again.json()["scope"] == "api:read"
        only = await auth.login(client_id="console", scope="api:admin")
        assert (only.status_code, only.json()["error"]) == (400, "invalid_scope")


async def test_password_grant_can_be_off(settings: AuthSettings) -> None:
    """``AUTH_SERVICE__PASSWORD_GRANT=off`` removes it for everybody; nothing is compared or noted."""
    async with running_auth(replace(settings, password_grant=False)) as auth:
        refused = await auth.login()
        assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")
        assert await auth.rows("SELECT id FROM audit_logs") == []
