"""New passwords: which ones people may choose, and the link with which they do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from codelab.auth.policy import WeakPassword, check_password
from codelab.auth.resets import create_reset
from tests.support.auth import ISSUER, PASSWORD, RunningAuth
from tests.support.flows import REQUEST, events, let_in

if TYPE_CHECKING:
    from tests.support.browser import Browser

NEW = "nine lazy foxes"


async def link(auth: RunningAuth) -> str:
    """Make a link for the administrator's own password."""
    (user,) = await auth.rows("SELECT id FROM users")
    return await auth.module.database.write(lambda tx: create_reset(tx.session, user["id"], ISSUER))


@pytest.mark.parametrize(
    ("password", "flaw"),
    [
        ("", "too_short"),
        ("1234567", "too_short"),
        ("x" * 1025, "too_long"),
        ("nine lazy\0foxes", "too_long"),
        ("Password1", "too_common"),
        ("aaaaaaaaaaaaaa", "too_common"),
        ("Ada.Lovelace", "like_name"),
        ("ADA@example.com", "like_name"),
    ],
)
def test_weak_passwords(password: str, flaw: str) -> None:
    """What is guessed first is refused with the cause, without the password in the error."""
    with pytest.raises(WeakPassword) as raised:
        check_password(password, "ada.lovelace", "ada@example.com")

    assert raised.value.flaw == flaw
    assert not password or password not in str(raised.value)


def test_good_passwords() -> None:
    """Blanks and all scripts are fine, and nobody has to mix kinds of characters."""
    for password in (NEW, "пароль из слов", "x" * 1023 + "y", "🐎🔋📎✅🐎🔋📎✅"):
        check_password(password, "admin", "admin@codelab.local")


async def test_link(provider: RunningAuth, browser: Browser) -> None:
    """It sets the password once, and ends tokens and sign-ins; before that a weak one does not use it up."""
    tokens = (await provider.login()).json()
    assert "code" in await let_in(browser, REQUEST)
    url = await link(provider)
    assert PASSWORD not in url
    await browser.open(url)
    for password, again, told in ((NEW, "other", "differ"), ("password1", "password1", "everybody tries")):
        page = await browser.submit(password=password, again=again)
        assert (page.status_code, told in page.text) == (400, True)
    assert (await browser.submit(password=NEW, again=NEW)).status_code == 200
    assert (await provider.login(password=PASSWORD)).status_code == 401
    assert (await provider.login(password=NEW)).status_code == 200
    assert (await provider.me(tokens["access_token"])).status_code == 401
    assert (await provider.refresh(tokens["refresh_token"])).status_code == 400
    assert await provider.rows("SELECT id FROM browser_sessions") == []
    page = await browser.open(url)
    assert (page.status_code, "used already" in page.text) == (400, True)
    assert "password_reset" in await events(provider)


async def test_links_end(auth: RunningAuth, browser: Browser) -> None:
    """A later link, a day, or being disabled ends one; what never was one is not told apart."""
    first = await link(auth)
    second = await link(auth)
    for url in (first, f"{ISSUER}/oauth/reset?token=x", f"{ISSUER}/oauth/reset"):
        assert (await browser.open(url)).status_code == 400
    assert (await browser.open(second)).status_code == 200
    await auth.execute("UPDATE users SET is_active = :no", no=False)
    assert (await browser.submit(password=NEW, again=NEW)).status_code == 400
    await auth.execute("UPDATE users SET is_active = :yes", yes=True)
    assert (await browser.open(second)).status_code == 200
    await auth.execute("UPDATE password_resets SET expires_at = created_at")
    assert (await browser.open(second)).status_code == 400
    (row,) = await auth.rows("SELECT token_hash FROM password_resets")
    assert row["token_hash"] not in second


async def test_once(auth: RunningAuth, browser: Browser) -> None:
    """Of five who use a link at once, one sets the password."""
    await browser.open(await link(auth))
    forms = [browser.read.forms[0].fields | {"password": NEW + mark, "again": NEW + mark} for mark in "abcde"]
    answers = await asyncio.gather(*(browser.http.post("/oauth/reset", data=form) for form in forms))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 4]
    (form,) = [form for form, answer in zip(forms, answers, strict=True) if answer.is_success]
    assert (await auth.login(password=form["password"])).status_code == 200
