"""What people see and do about their own account, and the tokens that they make there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from codelab.identity import Principal
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.browser import Browser, browsing
from tests.support.flows import events, exchange, let_in

if TYPE_CHECKING:
    import httpx2

NEW = "nine lazy foxes"


@pytest.fixture
async def account(provider: RunningAuth, browser: Browser) -> Browser:
    """A browser that shows the page."""
    await browser.open("/oauth/account")
    assert (await browser.sign_in("admin", PASSWORD)).status_code == 200
    return browser


async def act(browser: Browser, action: str, **fields: str) -> httpx2.Response:
    """Send a form of the page, as it would be filled in."""
    (form_token, *_) = re.findall(r'name="form_token" value="([0-9a-f]+)"', browser.page.text)
    sent = {"action": action, "form_token": form_token} | fields
    answer = await browser.http.post("/oauth/account", data=sent)
    if answer.is_redirect:
        assert answer.headers["Location"] == "/oauth/account"
        return await browser.open("/oauth/account")
    return answer


async def make_token(browser: Browser, *scopes: str, name: str = "ci", days: str = "30") -> httpx2.Response:
    """Make a personal access token."""
    return await act(browser, "make_token", name=name, days=days, **{f"scope {scope}": "on" for scope in scopes})


def token_of(page: httpx2.Response) -> str:
    """Read the token that the page shows."""
    (token,) = re.findall(r"codelab_pat_[\w-]{43}", page.text)
    return str(token)


async def test_one_ends(provider: RunningAuth, account: Browser) -> None:
    """A browser, a program's login and an app are listed, and each ends alone, with its tokens."""
    first, second = (await provider.login()).json(), (await provider.login()).json()
    await let_in(account)
    code = await let_in(account)
    third = (await exchange(provider, code["code"])).json()
    async with browsing(provider.app) as other:
        await other.open("/oauth/account")
        await other.sign_in("admin", PASSWORD)
        page = await account.open("/oauth/account")
        (family,) = await provider.rows(
            "SELECT family_id FROM refresh_tokens ORDER BY created_at, id LIMIT 1",
        )
        browsers = await provider.rows("SELECT id FROM browser_sessions ORDER BY auth_time")
        for listed in (family["family_id"], *(each["id"] for each in browsers), "The web"):
            assert listed in page.text
        assert page.text.count("this browser") >= 1

        page = await act(account, "end_login", id=family["family_id"])
        assert family["family_id"] not in page.text
        states = [(await provider.me(each["access_token"])).status_code for each in (first, second, third)]
        assert states == [401, 200, 200]

        await act(account, "remove_app", id="web")
        assert (await provider.me(third["access_token"])).status_code == 401
        assert await provider.rows("SELECT id FROM consents") == []

        await act(account, "end_browser", id=browsers[1]["id"])
        assert "password" in (await other.open("/oauth/account")).text
        assert "Password until now" in (await account.open("/oauth/account")).text
    assert (await events(provider)).count("logout") == 2
    assert "consent_removed" in await events(provider)


async def test_all_end(provider: RunningAuth, account: Browser) -> None:
    """All ends but this browser, personal tokens too; what belongs to somebody else cannot be ended."""
    tokens = (await provider.login()).json()
    personal = token_of(await make_token(account, "api:read"))
    assert (await provider.me(personal)).status_code == 200
    (own,) = await provider.rows("SELECT id FROM browser_sessions")
    await provider.execute(
        "INSERT INTO users (id, username, email, password_hash, is_active, is_verified, created_at, updated_at) "
        "SELECT 'bob', 'bob', 'bob@example.com', password_hash, is_active, is_verified, created_at, updated_at "
        "FROM users"
    )
    theirs = (await provider.login("bob")).json()
    (family,) = await provider.rows("SELECT family_id FROM refresh_tokens WHERE user_id = 'bob'")
    await act(account, "end_login", id=family["family_id"])
    assert (await provider.me(theirs["access_token"])).status_code == 200
    await act(account, "end_all")
    assert (await provider.me(tokens["access_token"])).status_code == 401
    assert (await provider.me(personal)).status_code == 401
    assert (await provider.refresh(tokens["refresh_token"])).status_code == 400
    assert (await provider.me(theirs["access_token"])).status_code == 200
    assert await provider.rows("SELECT id FROM browser_sessions") == [own]


async def test_logins_without_refresh_tokens_end_too(provider: RunningAuth, account: Browser) -> None:
    """Their access tokens end at once, one by one or with all that a person or an administrator ends."""
    users, actor = provider.module.operators.users, Actor("tests", Origin())
    await provider.client("plain", "password")

    async def log_in(username: str = "admin") -> str:
        answer = (await provider.login(username, client_id="plain")).json()
        assert "refresh_token" not in answer
        assert (await provider.me(answer["access_token"])).status_code == 200
        return str(answer["access_token"])

    first, second = await log_in(), await log_in()
    (family, _) = await provider.rows("SELECT family_id FROM refresh_tokens ORDER BY created_at, id")
    await act(account, "end_login", id=family["family_id"])
    assert [(await provider.me(token)).status_code for token in (first, second)] == [401, 200]
    await act(account, "end_all")
    assert (await provider.me(second)).status_code == 401

    await users.create(actor, "bob", "bob@example.com", PASSWORD)
    for end in (lambda: users.reset_password(actor, "bob", PASSWORD), lambda: users.disable(actor, "bob")):
        token = await log_in("bob")
        await end()
        assert (await provider.me(token)).status_code == 401
    third = await log_in()
    await provider.module.operators.clients.disable(actor, "plain")
    assert (await provider.me(third)).status_code == 401


async def test_password(provider: RunningAuth, account: Browser) -> None:
    """The old one is asked for and failures count; the new one is checked; everything else ends."""
    tokens = (await provider.login()).json()
    for old, new, again, status in (
        (PASSWORD, NEW, "other", 400),
        (PASSWORD, "password1", "password1", 400),
        ("wrong", NEW, NEW, 403),
        ("x" * 2000, NEW, NEW, 403),
    ):
        page = await act(account, "password", old=old, password=new, again=again)
        assert (page.status_code, 'role="alert"' in page.text) == (status, True)
        assert NEW not in page.text
    assert (await provider.me(tokens["access_token"])).status_code == 200
    assert (await act(account, "password", old=PASSWORD, password=NEW, again=NEW)).status_code == 200
    assert (await provider.me(tokens["access_token"])).status_code == 401
    assert "Password until now" in (await account.open("/oauth/account")).text
    assert (await provider.login(password=NEW)).status_code == 200
    assert "password_changed" in await events(provider)
    for _ in range(10):
        await act(account, "password", old="wrong", password=NEW, again=NEW)
    page = await act(account, "password", old=NEW, password=PASSWORD, again=PASSWORD)
    assert (page.status_code, "Retry-After" in page.headers) == (429, True)


async def test_personal_token(provider: RunningAuth, account: Browser) -> None:
    """It is shown once, opens the API with its scopes and nothing else, tells its last use, and ends at once."""
    page = await make_token(account, "api:read")
    token = token_of(page)
    assert token not in (await account.open("/oauth/account")).text
    assert token not in str(await provider.rows("SELECT * FROM personal_tokens"))
    me = (await provider.me(token)).json()
    assert (me["username"], me["client_id"], me["scopes"]) == ("admin", "codelab-pat", ["api:read"])
    assert (await provider.refresh(token)).status_code == 400
    await provider.client("asker", "client_credentials", secret="s3cret")
    assert (await provider.post("/oauth/introspect", "asker", "s3cret", token=token)).json() == {"active": False}
    assert (await provider.http.get("/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})).status_code == 403
    assert (await provider.me(token[:-1])).status_code == 401
    assert "never used" in (await account.open("/oauth/account")).text
    await provider.module._look_after()
    assert "never used" not in (await account.open("/oauth/account")).text

    principal = await provider.module.authenticate(token)
    assert await provider.module.still_valid([principal]) == {principal}
    (row,) = await provider.rows("SELECT id FROM personal_tokens")
    await act(account, "end_token", id=row["id"])
    assert (await provider.me(token)).status_code == 401
    assert await provider.module.still_valid([principal]) == set[Principal]()
    assert {"personal_token_made", "personal_token_ended"} <= set(await events(provider))


async def test_what_tokens_may_not(provider: RunningAuth, account: Browser) -> None:
    """They decide nothing and administer nothing, have a name and an end, and need a sign-in of just now."""
    for scopes, name, days in (
        (("approvals:decide",), "ci", "30"),
        (("api:admin",), "ci", "30"),
        ((), "ci", "30"),
        (("api:read",), "", "30"),
        (("api:read",), "x" * 101, "30"),
        (("api:read",), "ci", "9999"),
        (("api:read",), "ci", "many"),
    ):
        page = await make_token(account, *scopes, name=name, days=days)
        assert (page.status_code, "codelab_pat_" in page.text) == (400, False)
    token = token_of(await make_token(account, "api:read", "api:write", "approvals:decide"))
    assert sorted((await provider.me(token)).json()["scopes"]) == ["api:read", "api:write"]
    await provider.execute("UPDATE browser_sessions SET auth_time = '2000-01-01 00:00:00+00:00'")
    page = await make_token(account, "api:read")
    assert "codelab_pat_" not in page.text
    assert 'autocomplete="current-password"' in page.text


async def test_others(provider: RunningAuth, account: Browser) -> None:
    """A form of another site does nothing, nor does an action that the page does not have."""
    assert (await act(account, "make_token", form_token="x")).status_code == 400
    assert (await act(account, "fly")).status_code == 400
    async with browsing(provider.app) as nobody:
        assert 'autocomplete="current-password"' in (await nobody.open("/oauth/account")).text
