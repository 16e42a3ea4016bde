"""Asking what a token is (RFC 7662), and ending it before its time (RFC 7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest

from codelab.auth.revocations import Revocations
from codelab.db import now
from tests.auth.test_cleaning import set_time
from tests.support.auth import CLIENT, ISSUER, RunningAuth

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
async def server(auth: RunningAuth) -> RunningAuth:
    """The module with a client that asks about tokens, and one that acts for itself."""
    await auth.client("asking", secret="s")
    await auth.client("machine", "client_credentials", secret="m")
    return auth


async def ask(auth: RunningAuth, token: str, **fields: str) -> Any:
    """Ask what a token is."""
    answer = await auth.post("/oauth/introspect", "asking", "s", token=token, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


async def revoke(auth: RunningAuth, token: str, *basic: str, **fields: str) -> Any:
    """End a token; as the public client unless a secret is shown."""
    return await auth.post("/oauth/revoke", *basic, token=token, **({} if basic else {"client_id": CLIENT}), **fields)


def claims(token: str) -> dict[str, Any]:
    """Read a token without checking it."""
    read: dict[str, Any] = pyjwt.decode(token, options={"verify_signature": False})
    return read


async def are_active(auth: RunningAuth, tokens: Iterable[str]) -> list[bool]:
    """Tell which tokens are good."""
    return [(await ask(auth, token))["active"] for token in tokens]


class TestIntrospection:
    async def test_access_token(self, server: RunningAuth) -> None:
        """It is described by its own claims, with the name of its person, whatever the hint says."""
        token = (await server.login()).json()["access_token"]
        said = claims(token)
        for hint in ("access_token", "refresh_token", "nonsense"):
            answer = await ask(server, token, token_type_hint=hint)
            assert answer == {
                "active": True,
                "username": "admin",
                "token_type": "Bearer",
                **{name: value for name, value in said.items() if name not in {"type", "sid"}},
            }

    async def test_refresh_token(self, server: RunningAuth) -> None:
        """It is described too, until it is used up, expired or its person disabled."""
        first = (await server.login()).json()["refresh_token"]
        answer = await ask(server, first)
        (row,) = await server.rows("SELECT user_id FROM refresh_tokens")
        assert (answer["active"], answer["client_id"], answer["username"]) == (True, CLIENT, "admin")
        assert (answer["sub"], answer["iss"]) == (row["user_id"], ISSUER)
        assert answer["exp"] > now().timestamp()
        second = (await server.refresh(first)).json()["refresh_token"]
        assert await are_active(server, (first, second)) == [False, True]
        await server.execute("UPDATE users SET is_active = :no", no=False)
        assert await are_active(server, (second,)) == [False]
        await server.execute("UPDATE users SET is_active = :yes", yes=True)
        await set_time(server, "UPDATE refresh_tokens SET expires_at = :at", now())
        assert await ask(server, second) == {"active": False}

    async def test_a_program_of_its_own(self, server: RunningAuth) -> None:
        """Its token has no person."""
        body = (await server.post("/oauth/token", "machine", "m", grant_type="client_credentials")).json()
        answer = await ask(server, body["access_token"])
        assert (answer["active"], answer["sub"], "username" in answer) == (True, "machine", False)

    async def test_what_is_no_token(self, server: RunningAuth) -> None:
        """Nothing is told but that it is not active."""
        token = (await server.login()).json()["access_token"]
        for nonsense in ("x", "a.b.c", token[:-2], token + "x", "é", "codelab_local_x", "x" * 20_000):
            assert await ask(server, nonsense) == {"active": False}, nonsense[:40]

    async def test_a_disabled_person(self, server: RunningAuth) -> None:
        """Their tokens are not active."""
        token = (await server.login()).json()["access_token"]
        await server.execute("UPDATE users SET is_active = :no", no=False)
        assert await ask(server, token) == {"active": False}

    async def test_a_disabled_client(self, server: RunningAuth) -> None:
        """The tokens that it was given are not active, a person's and its own; those by way of others are."""
        machine = (await server.post("/oauth/token", "machine", "m", grant_type="client_credentials")).json()
        login = (await server.login()).json()
        tokens = (machine["access_token"], login["access_token"], login["refresh_token"])
        for client_id, expected in (("machine", [False, True, True]), (CLIENT, [True, False, False])):
            change = "UPDATE oauth_clients SET is_active = :active WHERE client_id = :client_id"
            await server.execute(change, active=False, client_id=client_id)
            assert await are_active(server, tokens) == expected
            assert await ask(server, tokens[expected.index(False)]) == {"active": False}
            await server.execute(change, active=True, client_id=client_id)
        assert await are_active(server, tokens) == [True, True, True]

    async def test_only_clients_with_a_secret_may_ask(self, server: RunningAuth) -> None:
        """Others are told invalid_client, and nothing about the token; a bearer token is no proof either."""
        token = (await server.login()).json()["access_token"]
        for basic, fields in (
            ((), {"client_id": CLIENT}),
            ((), {"client_id": "asking"}),
            (("asking", "wrong"), {}),
            (("nobody", "s"), {}),
        ):
            answer = await server.post("/oauth/introspect", *basic, token=token, **fields)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), (basic, fields)
        headers = {"Authorization": f"Bearer {token}"}
        answer = await server.http.post("/oauth/introspect", data={"token": token}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        missing = await server.post("/oauth/introspect", "asking", "s")
        assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")


class TestRevocation:
    async def test_access_token(self, server: RunningAuth) -> None:
        """It ends at once, at the API and in introspection; its refresh token and other tokens go on."""
        first, second = [(await server.login()).json() for _ in range(2)]
        for body in (first, second):
            assert (await server.me(body["access_token"])).status_code == 200
        answer = await revoke(server, first["access_token"])
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        refused = await server.me(first["access_token"])
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
        assert (await server.me(second["access_token"])).status_code == 200
        tokens = (first["access_token"], first["refresh_token"], second["access_token"])
        assert await are_active(server, tokens) == [False, True, True]
        assert (await revoke(server, first["access_token"])).status_code == 200
        (event,) = await server.rows("SELECT * FROM audit_logs WHERE event_type = 'token_revoke'")
        assert (event["client_id"], event["success"]) == (CLIENT, True)
        assert first["access_token"] not in str(event)

    async def test_refresh_token(self, server: RunningAuth) -> None:
        """With it ends the whole login: every access and refresh token that came of it, and no other login."""
        first, other = [(await server.login()).json() for _ in range(2)]
        second = (await server.refresh(first["refresh_token"])).json()
        for body in (first, second, other):
            assert (await server.me(body["access_token"])).status_code == 200
        assert (await revoke(server, second["refresh_token"])).status_code == 200
        assert [(await server.me(body["access_token"])).status_code for body in (first, second, other)] == [
            401,
            401,
            200,
        ]
        assert (await server.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await server.refresh(other["refresh_token"])).status_code == 200
        assert (await revoke(server, second["refresh_token"])).status_code == 200
        assert len(await server.rows("SELECT id FROM audit_logs WHERE event_type = 'token_revoke'")) == 1

    async def test_a_used_refresh_token_ends_the_login(self, server: RunningAuth) -> None:
        """Who still has only the token before the last can log out with it."""
        first = (await server.login()).json()
        second = (await server.refresh(first["refresh_token"])).json()
        assert (await revoke(server, first["refresh_token"])).status_code == 200
        assert (await server.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await server.me(second["access_token"])).status_code == 401

    async def test_tokens_of_other_clients(self, server: RunningAuth) -> None:
        """Another client's token is not ended by this one."""
        body = (await server.login()).json()
        for token in (body["access_token"], body["refresh_token"]):
            answer = await revoke(server, token, "machine", "m")
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert (await server.me(body["access_token"])).status_code == 200
        assert (await server.refresh(body["refresh_token"])).status_code == 200

    async def test_what_is_no_token(self, server: RunningAuth) -> None:
        """It is no error: the client's wish is fulfilled already (section 2.2)."""
        for nonsense in ("x", "a.b.c", "é"):
            assert (await revoke(server, nonsense, token_type_hint="nonsense")).status_code == 200
        for basic, fields, error in (
            (("machine", "wrong"), {"token": "x"}, "invalid_client"),
            ((), {"token": "x"}, "invalid_request"),
            (("machine", "m"), {}, "invalid_request"),
        ):
            answer = await server.post("/oauth/revoke", *basic, **fields)
            assert answer.json()["error"] == error

    async def test_a_program_ends_its_own_token(self, server: RunningAuth) -> None:
        """A token without a person ends like any other."""
        body = (await server.post("/oauth/token", "machine", "m", grant_type="client_credentials")).json()
        assert (await server.me(body["access_token"])).status_code == 200
        assert (await revoke(server, body["access_token"], "machine", "m")).status_code == 200
        assert (await server.me(body["access_token"])).status_code == 401

    async def test_a_stolen_refresh_token_ends_access_tokens(self, server: RunningAuth) -> None:
        """When a used token comes back late, the access tokens of its login end too."""
        first = (await server.login()).json()
        second = (await server.refresh(first["refresh_token"])).json()
        assert (await server.me(second["access_token"])).status_code == 200
        long_ago = now().replace(year=2020)
        await set_time(server, "UPDATE refresh_tokens SET revoked_at = :at WHERE revoked", long_ago)
        assert (await server.refresh(first["refresh_token"])).status_code == 400
        assert (await server.me(second["access_token"])).status_code == 401

    async def test_other_processes_notice(self, server: RunningAuth) -> None:
        """What another process revoked is refused when the second is over for which an answer is remembered."""
        body = (await server.login()).json()
        assert (await server.me(body["access_token"])).status_code == 200
        elsewhere = Revocations(server.module.database)
        ids = (claims(body["access_token"])["jti"], claims(body["access_token"])["sid"])
        assert not await elsewhere.has_ended(ids)
        await revoke(server, body["refresh_token"])
        assert await elsewhere.ended(ids) == {ids[1]}
        elsewhere.note()
        assert await elsewhere.has_ended(ids)

    async def test_ended_tokens_are_forgotten(self, server: RunningAuth) -> None:
        """The row lasts as long as the token would have."""
        body = (await server.login()).json()
        await revoke(server, body["access_token"])
        (row,) = await server.rows("SELECT * FROM revoked_tokens")
        assert row["id"] == claims(body["access_token"])["jti"]
