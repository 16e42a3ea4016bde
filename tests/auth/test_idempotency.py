"""Idempotency-Key on what administrators do: repeated, it has its effect once and gets its answer again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab import idempotency
from codelab.auth.cleaning import clean
from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from tests.agent.routes import list_routes
from tests.support.auth import RunningAuth, running_auth

if TYPE_CHECKING:
    import httpx2

    from codelab.settings import AuthSettings

ROOT = "/api/v1/admin"
REPLAYED = "Idempotent-Replayed"
#: Their answers may have a secret, which is told once and kept nowhere.
WITH_A_SECRET = {
    f"{ROOT}/users",
    f"{ROOT}/users/{{username}}/reset-password",
    f"{ROOT}/users/{{username}}/reset-link",
    f"{ROOT}/clients",
    f"{ROOT}/clients/{{client_id}}/rotate-secret",
}
#: In an order in which each has an effect.
ONCE = (
    f"{ROOT}/users/{{username}}/disable",
    f"{ROOT}/users/{{username}}/enable",
    f"{ROOT}/clients/{{client_id}}/disable",
    f"{ROOT}/clients/{{client_id}}/enable",
    f"{ROOT}/keys/rotate",
    f"{ROOT}/keys/{{kid}}/retire",
)


class Admin:
    """A program that administers."""

    def __init__(self, auth: RunningAuth, token: str) -> None:
        self._auth = auth
        self._token = token

    @classmethod
    async def on(cls, auth: RunningAuth, client_id: str = "ops") -> Admin:
        """Let one in, also where it is there already."""
        await auth.client(client_id, "client_credentials", secret="s")
        answer = await auth.post("/oauth/token", client_id, "s", grant_type="client_credentials", scope="api:admin")
        return cls(auth, answer.json()["access_token"])

    async def post(self, path: str, key: str | bytes = "k", body: Any = None) -> httpx2.Response:
        """Send a request with a key."""
        headers = {b"Authorization": f"Bearer {self._token}".encode()}
        headers[b"Idempotency-Key"] = key if isinstance(key, bytes) else key.encode()
        return await self._auth.http.post(path, json=body, headers=headers)


@pytest.fixture
async def admin(served: RunningAuth) -> Admin:
    """A program that administers, beside a client that can be disabled."""
    await served.client("job", "password")
    return await Admin.on(served)


async def told(auth: RunningAuth) -> list[Any]:
    """Read what the audit trail tells of changes."""
    rows = await auth.rows("SELECT event_type FROM audit_logs ORDER BY seq")
    return [row["event_type"] for row in rows if row["event_type"] != "client_login"]


async def test_every_post_without_a_secret_is_carried_out_once(served: RunningAuth, admin: Admin) -> None:
    """The same key: status and body byte for byte, and a header; the trail tells of it once, the key signs once."""
    posts = {route.path for route in list_routes(served.app, "/api/v1") if route.method == "POST"}
    assert posts == WITH_A_SECRET | set(ONCE) | {"/api/v1/me"} & posts
    (old,) = await served.rows("SELECT kid FROM signing_keys")
    names = {"username": "ada", "client_id": "job", "kid": old["kid"]}
    for path in ONCE:
        if path.endswith("retire"):  # it ends the tokens of that key
            admin = await Admin.on(served)
        first = await admin.post(path.format(**names))
        assert first.is_success, first.text
        assert REPLAYED not in first.headers
        before = await told(served)
        for key in ("k", '"k"'):
            again = await admin.post(path.format(**names), key)
            assert (again.status_code, again.content) == (first.status_code, first.content), path
            assert again.headers.get_list(REPLAYED) == ["true"]
        assert await told(served) == before
    kinds = ("user_disabled", "user_enabled", "client_disabled", "client_enabled", "key_made", "key_retired")
    assert (await told(served))[-len(kinds) :] == list(kinds)
    assert len(await served.rows("SELECT kid FROM signing_keys")) == 2


async def test_openapi_says_which_take_a_key(served: RunningAuth) -> None:
    """The document names the header on these routes, and on no other of the module."""
    document = served.app.openapi_schema.to_schema()
    taking = {
        path
        for path, item in document["paths"].items()
        for parameter in item.get("post", {}).get("parameters", ())
        if parameter["name"] == "Idempotency-Key"
    }
    assert taking == set(ONCE)


async def test_an_answer_stays_what_it_was(admin: Admin) -> None:
    """What came in between does not show: the answer is the one that was given, and nothing is done again."""
    disabled = await admin.post(f"{ROOT}/users/ada/disable", "one")
    await admin.post(f"{ROOT}/users/ada/enable", "two")
    again = await admin.post(f"{ROOT}/users/ada/disable", "one")
    rotated = await admin.post(f"{ROOT}/keys/rotate", "three")
    await admin.post(f"{ROOT}/keys/rotate", "four")
    repeated = await admin.post(f"{ROOT}/keys/rotate", "three")

    assert again.content == disabled.content
    assert (await admin.post(f"{ROOT}/users/ada/enable", "five")).json()["is_active"] is True
    assert (repeated.content, repeated.json()["state"]) == (rotated.content, "signs")


async def test_another_body_is_refused(served: RunningAuth, admin: Admin) -> None:
    """A key names one request; another route, or another thing on the same, has keys of its own."""
    first = await admin.post(f"{ROOT}/users/ada/disable", body={"why": "one"})
    other = await admin.post(f"{ROOT}/users/ada/disable", body={"why": "two"})
    none = await admin.post(f"{ROOT}/users/ada/disable")
    enabled = await admin.post(f"{ROOT}/users/ada/enable")
    elsewhere = await admin.post(f"{ROOT}/clients/job/disable", body={"why": "two"})

    assert (first.status_code, enabled.status_code, elsewhere.status_code) == (200, 200, 200)
    for refused in (other, none):
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (409, "idempotency_key_reused")
        assert problem["field"] == "Idempotency-Key"
    assert (await told(served))[-3:] == ["user_disabled", "user_enabled", "client_disabled"]


async def test_repetitions_at_the_same_time_wait_for_the_first(served: RunningAuth, admin: Admin) -> None:
    """Twenty at once: one new key, twenty times the same answer."""
    answers = await asyncio.gather(*(admin.post(f"{ROOT}/keys/rotate") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 19
    assert len(await served.rows("SELECT kid FROM signing_keys")) == 2


async def test_another_principal_has_keys_of_their_own(served: RunningAuth, admin: Admin) -> None:
    """The same key of two administrators on the same route: two new signing keys."""
    other = await Admin.on(served, "more-ops")
    mine, theirs = await admin.post(f"{ROOT}/keys/rotate"), await other.post(f"{ROOT}/keys/rotate")

    assert mine.json()["kid"] != theirs.json()["kid"]
    assert REPLAYED not in theirs.headers


async def test_errors_are_not_kept_and_bad_keys_named(admin: Admin) -> None:
    """What had no effect is tried anew; a key that is none has none."""
    unknown = await admin.post(f"{ROOT}/users/bob/disable")
    await admin.post(f"{ROOT}/users", body={"username": "bob", "email": "bob@example.com"})
    found = await admin.post(f"{ROOT}/users/bob/disable")
    assert (unknown.status_code, found.status_code, REPLAYED in found.headers) == (404, 200, False)
    for key in (b"", b'""', b"x" * 256, b"\xc3\xa9", b"a b"):
        refused = await admin.post(f"{ROOT}/users/ada/disable", key)
        assert (refused.status_code, refused.json()["field"]) == (400, "Idempotency-Key"), key


async def test_a_key_outlives_the_server(settings: AuthSettings) -> None:
    """Another process gives the answer of the one before."""
    async with running_auth(settings) as auth:
        first = await (await Admin.on(auth)).post(f"{ROOT}/keys/rotate")
    async with running_auth(settings) as auth:
        again = await (await Admin.on(auth)).post(f"{ROOT}/keys/rotate")
        keys = await auth.rows("SELECT kid FROM signing_keys")

    assert (again.content, again.headers[REPLAYED], len(keys)) == (first.content, "true", 2)


async def test_no_effect_without_its_answer(served: RunningAuth, admin: Admin) -> None:
    """One unit of work writes both: where the answer cannot be kept, nothing was done."""
    await served.execute("ALTER TABLE auth_kept_answers RENAME TO gone")
    assert (await admin.post(f"{ROOT}/users/ada/disable")).status_code >= 500
    await served.execute("ALTER TABLE gone RENAME TO auth_kept_answers")
    (ada,) = await served.rows("SELECT is_active FROM users WHERE username = 'ada'")
    assert ada["is_active"]
    assert (await admin.post(f"{ROOT}/users/ada/disable")).status_code == 200


async def test_answers_go_with_whom_they_tell_of(served: RunningAuth, admin: Admin) -> None:
    """A deleted account leaves nothing of it in an answer; what tells of others is kept."""
    for username in ("bob", "eve"):
        await admin.post(f"{ROOT}/users", body={"username": username, "email": f"{username}@example.com"})
        await admin.post(f"{ROOT}/users/{username}/disable")
    await served.module.operators.users.delete(Actor("tests", Origin()), "bob")
    kept = [row["answer"] for row in await served.rows("SELECT answer FROM auth_kept_answers")]

    assert ["eve@example.com" in answer for answer in kept] == [True]
    assert (await admin.post(f"{ROOT}/users/bob/disable")).status_code == 404


async def test_answers_end_after_a_day(served: RunningAuth, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old key is a new one, also before its row is removed; and the rows are removed."""
    first = await admin.post(f"{ROOT}/keys/rotate")
    young = await clean(served.module.database, served.settings, served.module._audit.chain)
    monkeypatch.setattr(idempotency, "KEPT", timedelta(0))
    second = await admin.post(f"{ROOT}/keys/rotate", body={"other": True})
    before = await served.rows("SELECT db_id FROM auth_kept_answers")
    old = await clean(served.module.database, served.settings, served.module._audit.chain)

    assert first.json()["kid"] != second.json()["kid"]
    assert (young["kept answers"], len(before), old["kept answers"]) == (0, 1, 1)
    assert await served.rows("SELECT db_id FROM auth_kept_answers") == []
