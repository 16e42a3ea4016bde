"""Whatever matters for security leaves a row in the audit trail: who, from where, in which request, and no secret."""

from __future__ import annotations

from base64 import b32encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest

from codelab.auth.audit import Event
from codelab.auth.seeds import DEVICE_CODE, TERMINAL_CLIENT_ID
from codelab.auth.storage import describe
from tests.auth.test_account import NEW, act, make_token, token_of
from tests.auth.test_factors import turn_on
from tests.support.auth import CLIENT, PASSWORD, RunningAuth, running_auth
from tests.support.browser import Browser, browsing
from tests.support.flows import REQUEST, VERIFIER, WEB, let_in, url_of
from tests.support.operators import document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from codelab.settings import AuthSettings

AGENT = {"User-Agent": "editor/1"}


@pytest.fixture
async def auth(settings: AuthSettings) -> AsyncIterator[RunningAuth]:
    """A module in which everybody may register, and without a grace for used tokens."""
    async with running_auth(replace(settings, registration="open", refresh_grace=0.0)) as running:
        yield running


@dataclass
class Scene:
    """What happens, one thing after the other; each adds to ``secrets`` what nobody may read afterwards."""

    auth: RunningAuth
    browser: Browser
    secrets: list[str] = field(default_factory=lambda: [PASSWORD, "a wrong password"])

    async def send(self, path: str, *basic: str, **fields: str) -> Any:
        """Send a form as a program with a name, and keep what it is given."""
        answer = await self.auth.post(path, *basic, **fields)
        body = answer.json()
        names = ("access_token", "refresh_token", "id_token", "device_code", "client_secret")
        self.secrets.extend(body[name] for name in names if name in body)
        return body

    async def passwords(self) -> None:
        """Log in with a password, wrong and right; refresh, and bring a used token back; end a login."""
        by = {"client_id": CLIENT}
        ask = {**by, "grant_type": "password", "username": "admin"}
        await self.send("/oauth/token", **ask, password="a wrong password")
        first = await self.send("/oauth/token", **ask, password=PASSWORD)
        used = {**by, "grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        await self.send("/oauth/token", **used)
        assert (await self.send("/oauth/token", **used))["error"] == "invalid_grant"
        second = await self.send("/oauth/token", **ask, password=PASSWORD)
        await self.send("/oauth/revoke", **by, token=second["refresh_token"])
        await self.send("/oauth/token", **used | {"refresh_token": "x" * 43})

    async def programs(self) -> None:
        """A program acts for itself, with the right secret and a wrong one."""
        await self.auth.client("backend", "client_credentials", secret="s" * 43)
        self.secrets.extend(("s" * 43, "w" * 43))
        await self.send("/oauth/token", "backend", "s" * 43, grant_type="client_credentials")
        await self.send("/oauth/token", "backend", "w" * 43, grant_type="client_credentials")
        answer = await self.auth.http.post("/oauth/register", json={"redirect_uris": [WEB]})
        self.secrets.append(answer.json()["client_secret"])

    async def browsers(self) -> None:
        """A person agrees, is not asked again, brings a code back, and says no to another client."""
        await self.auth.client("web", "authorization_code", "refresh_token", redirect_uris=[WEB])
        await self.auth.client("other", "authorization_code", redirect_uris=[WEB])
        code = (await let_in(self.browser))["code"]
        again = (await let_in(self.browser))["code"]
        self.secrets.extend((code, again))
        fields = {"client_id": "web", "redirect_uri": WEB, "code": code, "code_verifier": VERIFIER}
        for _ in range(2):
            await self.send("/oauth/token", grant_type="authorization_code", **fields)
        await self.browser.open(url_of(REQUEST, client_id="other"))
        await self.browser.submit("deny")

    async def devices(self) -> None:
        """A person lets one device in and not another."""
        for decision in ("allow", "deny"):
            codes = await self.send("/oauth/device_authorization", client_id=TERMINAL_CLIENT_ID)
            await self.browser.open(codes["verification_uri_complete"])
            await self.browser.submit(decision)
            fields = {"client_id": TERMINAL_CLIENT_ID, "device_code": codes["device_code"]}
            await self.send("/oauth/token", grant_type=DEVICE_CODE, **fields)

    async def account(self) -> None:
        """A person looks after their account, and guesses until they have to wait."""
        browser = self.browser
        await browser.open("/oauth/account")
        await act(browser, "remove_app", id="web")
        self.secrets.append(token_of(await make_token(browser, "api:read")))
        (row,) = await self.auth.rows("SELECT id FROM personal_tokens")
        await act(browser, "end_token", id=row["id"])
        secret, codes = await turn_on(browser)
        self.secrets.extend((b32encode(secret).decode(), *codes))
        await act(browser, "remove_factor")
        self.secrets.append(NEW)
        await act(browser, "password", old=PASSWORD, password=NEW, again=NEW)
        for _ in range(11):
            await act(browser, "password", old="a wrong password", password=NEW, again=NEW)
        await browser.open("/oauth/logout")
        await browser.submit()

    async def operators(self) -> None:
        """An operator does all that there is to do."""
        grant = ("--name", "M", "--confidential", "--grant", "client_credentials")
        for arguments in (
            ("user", "create", "bob", "--email", "bob@example.com"),
            ("user", "disable", "bob"),
            ("user", "enable", "bob"),
            ("user", "reset-link", "bob", "--issuer", "http://127.0.0.1"),
            ("user", "reset-password", "bob"),
            ("user", "delete", "bob", "--yes"),
            ("client", "create", "machine", *grant),
            ("client", "rotate-secret", "machine"),
            ("client", "disable", "machine"),
            ("client", "enable", "machine"),
            ("client", "delete", "machine", "--yes"),
        ):
            shown = await document(self.auth.settings, *arguments)
            self.secrets.extend(shown[name] for name in ("password", "secret", "link") if name in shown)
        (old,) = (await document(self.auth.settings, "keys", "list"))["keys"]
        await document(self.auth.settings, "keys", "rotate")
        await document(self.auth.settings, "keys", "retire", old["kid"], "--yes")


async def test_every_event_is_written_and_tells_no_secret(auth: RunningAuth) -> None:
    """Each kind of row occurs, with the address, the program and the request, or the command; the trail is whole."""
    auth.http.headers.update(AGENT)
    async with browsing(auth.app) as browser:
        browser.http.headers.update(AGENT)
        scene = Scene(auth, browser)
        acts: tuple[Callable[[], Awaitable[None]], ...] = (
            scene.passwords,
            scene.programs,
            scene.browsers,
            scene.devices,
            scene.account,
            scene.operators,
        )
        for play in acts:
            await play()
    rows = await auth.rows("SELECT * FROM audit_logs ORDER BY seq")

    assert {row["event_type"] for row in rows} == set(get_args(Event))
    for row in rows:
        told = msgspec.json.decode(row["event_data"])
        if "by" in told:
            assert row["user_agent"].startswith("codelab "), row
        else:
            assert (row["ip_address"], row["user_agent"]) == ("127.0.0.1", "editor/1"), row
            assert told["request_id"], row
        assert bool(row["success"]) == (row["error_message"] is None), row
        assert row["user_id"] or row["client_id"] or "kid" in told, row
    failures = {row["event_type"] for row in rows if not row["success"]}
    assert failures == {
        *("client_refused", "code_reuse", "consent_denied", "device_denied", "grant_refused", "login_failed"),
        *("login_throttled", "token_reuse"),
    }
    assert len(scene.secrets) > 20
    assert [secret for secret in scene.secrets if secret in str(rows)] == []
    # A replay has one row, not a second one for its refusal.
    refused = [row for row in rows if row["event_type"] == "grant_refused"]
    assert [msgspec.json.decode(row["event_data"])["grant_type"] for row in refused] == ["refresh_token"]
    async with auth.module.database.engine.connect() as connection:
        for check in describe(auth.settings).checks:
            assert [found for found in await check.find(connection) if found.severity == "fault"] == []


async def test_what_is_malformed_leaves_no_row(auth: RunningAuth) -> None:
    """Requests that are merely wrong fill no trail; a client that nobody knows does, by the name that it says."""
    for fields in ({}, {"grant_type": "x"}, {"grant_type": "refresh_token"}, {"grant_type": "password"}):
        await auth.post("/oauth/token", client_id=CLIENT, **fields)
    assert await auth.rows("SELECT id FROM audit_logs") == []
    await auth.post("/oauth/revoke", client_id="nobody\u202e", token="x")
    (row,) = await auth.rows("SELECT event_type, client_id, user_id FROM audit_logs")
    assert tuple(row.values()) == ("client_refused", "nobody\u202e", None)
