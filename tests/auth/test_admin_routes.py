"""What administrators do over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.auth.test_account import NEW
from tests.auth.test_factors import set_up
from tests.support.auth import PASSWORD
from tests.support.browser import browsing

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth

ROOT = "/api/v1/admin"


class Admin:
    """Somebody with a token."""

    def __init__(self, auth: RunningAuth, token: str) -> None:
        self._auth = auth
        self._headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "0193-request", "User-Agent": "tests"}

    async def send(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, Any]:
        """Send a request; return status and body."""
        answer = await self._auth.http.request(
            method, ROOT + path, json=body, params=params or None, headers=self._headers
        )
        told = answer.json()
        if "password" in told or "secret" in told:
            assert answer.headers["Cache-Control"] == "no-store"
        return answer.status_code, told


@pytest.fixture
async def admin(served: RunningAuth) -> Admin:
    """A program that administers."""
    await served.client("ops", "client_credentials", secret="s")
    answer = await served.post("/oauth/token", "ops", "s", grant_type="client_credentials", scope="api:admin")
    return Admin(served, answer.json()["access_token"])


async def test_people(served: RunningAuth, admin: Admin) -> None:
    """Made, listed, disabled, enabled, given another password, deleted."""
    status, made = await admin.send("POST", "/users", {"username": "bob", "email": "bob@example.com"})
    assert (status, made["user"]["username"], made["user"]["is_admin"]) == (201, "bob", False)
    tokens = (await served.login("bob", made["password"])).json()
    _, page = await admin.send("GET", "/users", limit=1, after="admin")
    assert [user["username"] for user in page["users"]] == ["bob"]
    assert (await admin.send("POST", "/users/bob/disable"))[1]["is_active"] is False
    assert (await served.refresh(tokens["refresh_token"])).status_code == 400
    assert (await admin.send("POST", "/users/bob/enable"))[1]["is_active"] is True
    assert (await admin.send("POST", "/users/bob/reset-password", {"password": PASSWORD}))[1]["password"] is None
    assert (await served.login("bob")).status_code == 200
    assert (await admin.send("GET", "/users/bob"))[0] == 200
    status, problem = await admin.send("DELETE", "/users/bob/second-factor")
    assert (status, problem["detail"]) == (404, "'bob' has no second factor.")
    assert (await admin.send("DELETE", "/users/bob"))[0] == 200
    status, problem = await admin.send("GET", "/users/bob")
    assert (status, problem["code"]) == (404, "not_found")


async def test_who_lost_what_they_sign_in_with(served: RunningAuth, admin: Admin) -> None:
    """A link leads to a page that sets another password; a second factor is removed; none goes to who is disabled."""
    async with browsing(served.app) as browser:
        await set_up(browser, "ada")
        assert (await served.login("ada")).status_code == 400
        assert (await admin.send("DELETE", "/users/ada/second-factor"))[0] == 200
        assert (await served.login("ada")).status_code == 200
        status, made = await admin.send("POST", "/users/ada/reset-link")
        assert (status, list(made)) == (200, ["url"])
        await browser.open(made["url"])
        assert (await browser.submit(password=NEW, again=NEW)).status_code == 200
    assert [(await served.login("ada", each)).status_code for each in (PASSWORD, NEW)] == [401, 200]
    other = (await admin.send("POST", "/users", {"username": "bob", "email": "bob@example.com"}))[1]["user"]["username"]
    await admin.send("POST", f"/users/{other}/disable")
    assert (await admin.send("POST", f"/users/{other}/reset-link"))[0] == 409


async def test_clients(served: RunningAuth, admin: Admin) -> None:
    """Made with a secret that is told once, given another, disabled, enabled, deleted."""
    wanted = {"client_id": "job", "name": "Job", "confidential": True, "grants": ["client_credentials"]}
    status, made = await admin.send("POST", "/clients", wanted)
    assert (status, len(made["secret"])) == (201, 43)

    async def ask(secret: str) -> int:
        return (await served.post("/oauth/token", "job", secret, grant_type="client_credentials")).status_code

    assert await ask(made["secret"]) == 200
    _, rotated = await admin.send("POST", "/clients/job/rotate-secret", {})
    assert (await ask(made["secret"]), await ask(rotated["secret"])) == (401, 200)
    assert (await admin.send("POST", "/clients/job/disable"))[1]["is_active"] is False
    assert (await admin.send("POST", "/clients/job/enable"))[1]["is_active"] is True
    assert "secret" not in (await admin.send("GET", "/clients/job"))[1]
    assert (await admin.send("DELETE", "/clients/job"))[0] == 200
    _, page = await admin.send("GET", "/clients")
    assert [client["client_id"] for client in page["clients"]] == ["codelab-cli", "codelab-flutter-app", "ops"]


async def test_keys_and_the_trail(served: RunningAuth, admin: Admin) -> None:
    """A rotated key signs at once; who did it is in the audit trail, which is read in pages."""
    _, before = await admin.send("GET", "/keys")
    status, made = await admin.send("POST", "/keys/rotate")
    assert (status, made["state"]) == (201, "signs")
    assert served.module._keys.signing[0] == made["kid"]
    assert (await admin.send("POST", f"/keys/{made['kid']}/retire"))[0] == 409
    _, page = await admin.send("GET", "/audit", event="key_made")
    (row,) = page["rows"]
    assert (row["event_data"]["by"], row["event_data"]["request_id"]) == ("ops", "0193-request")
    assert (row["ip_address"], row["user_agent"]) == ("127.0.0.1", "tests")
    (ada,) = await served.rows("SELECT id FROM users WHERE username = 'ada'")
    _, about = await admin.send("GET", "/audit", user_id=ada["id"])
    assert [row["event_type"] for row in about["rows"]] == ["user_created"]
    seen: list[int] = []
    while rows := (await admin.send("GET", "/audit", limit=1, **({"before": seen[-1]} if seen else {})))[1]["rows"]:
        seen.append(rows[0]["seq"])
    assert seen == list(range(len(seen), 0, -1))
    assert len(seen) >= 3
    # The token is one of the old key, so its own retirement ends it.
    assert (await admin.send("POST", f"/keys/{before['keys'][0]['kid']}/retire"))[0] == 200


async def test_refusals(served: RunningAuth, admin: Admin) -> None:
    """Wrong bodies are 400 that name the field, clashes 409; people who are no administrators get 403."""
    for body, field in (
        ({}, "username"),
        ({"username": "x", "email": "x"}, "email"),
        ({"username": "x", "email": "x@example.com", "password": "short"}, "password"),
        ({"username": "x", "email": "x@example.com", "root": True}, "root"),
        ({"username": "x\u0000", "email": "x@example.com"}, "username"),
    ):
        status, problem = await admin.send("POST", "/users", body)
        assert (status, problem["field"]) == (400, field), problem
    assert (await admin.send("POST", "/users", {"username": "ada", "email": "x@example.com"}))[0] == 409
    assert (await admin.send("DELETE", "/users/admin"))[0] == 409
    assert (await admin.send("GET", "/users", limit=0))[0] == 400
    assert (await admin.send("GET", "/audit", before=2**63))[0] == 400
    assert (await admin.send("GET", "/audit", event="\u0000"))[0] == 400
    assert (await admin.send("POST", "/clients/codelab-cli/rotate-secret", {}))[0] == 409
    await served.client("console", "password")
    answer = await served.login("ada", client_id="console", scope="api:admin api:read api:write")
    ada = Admin(served, answer.json()["access_token"])
    for method, path in (("GET", "/users"), ("POST", "/keys/rotate"), ("DELETE", "/clients/ops"), ("GET", "/audit")):
        status, problem = await ada.send(method, path)
        assert (status, problem["code"]) == (403, "insufficient_scope")
