"""Second factors: who has one needs a code beside the password, which is good once."""

from __future__ import annotations

import re
import time
from base64 import b32decode
from typing import TYPE_CHECKING

import pytest

from codelab.auth.people import totp
from tests.auth.test_account import act
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.browser import Browser, browsing
from tests.support.flows import events

if TYPE_CHECKING:
    from pathlib import Path


def test_rfc_vectors() -> None:
    """The codes are those of RFC 6238 appendix B, the last six digits of its eight."""
    secret = b"12345678901234567890"
    for at, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert totp.code_at(secret, at // totp.STEP) == code
        for off in (-30, 0, 30):
            assert totp.matching_step(secret, code, at + off) == at // totp.STEP
        assert totp.matching_step(secret, code, at + 90) is None
    assert totp.matching_step(secret, "é", 59) is None


def code_of(secret: bytes, later: int = 0) -> str:
    """Return what an app shows now, or at a later step."""
    return totp.code_at(secret, int(time.time()) // totp.STEP + later)


async def set_up(browser: Browser, username: str = "admin") -> tuple[bytes, list[str]]:
    """Sign in and turn the second factor on; return its secret and the recovery codes."""
    await browser.open("/oauth/account")
    await browser.sign_in(username, PASSWORD)
    return await turn_on(browser)


async def turn_on(browser: Browser) -> tuple[bytes, list[str]]:
    """Turn the second factor on, on the page of the account."""
    page = await act(browser, "begin_factor")
    assert "<svg" in page.text
    (shown,) = re.findall(r'class="secret">([A-Z2-7]{32})<', page.text)
    secret = b32decode(shown)
    assert (await act(browser, "confirm_factor", code="000000x")).status_code == 400
    page = await act(browser, "confirm_factor", code=code_of(secret, -1))
    codes = re.findall(r"[0-9a-f]{10}-[0-9a-f]{10}", page.text)
    assert len(codes) == 10
    return secret, codes


@pytest.fixture
async def factor(auth: RunningAuth, browser: Browser) -> tuple[bytes, list[str]]:
    """A second factor of the administrator."""
    return await set_up(browser)


async def begin(browser: Browser) -> None:
    """Show the password in another browser; the page asks for the code then."""
    await browser.open("/oauth/account")
    page = await browser.sign_in("admin", PASSWORD)
    assert page.status_code == 200
    assert 'name="code"' in page.text
    assert "My account" not in page.text


async def test_signing_in(auth: RunningAuth, factor: tuple[bytes, list[str]]) -> None:
    """It takes a code, each once, whoever saw it; wrong ones are counted; the password alone does nothing."""
    secret, codes = factor
    (row,) = await auth.rows("SELECT secret_jwe FROM second_factors")
    assert row["secret_jwe"].count(".") == 4
    answer = await auth.login()
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    async with browsing(auth.app) as one, browsing(auth.app) as two:
        await begin(one)
        assert len(await auth.rows("SELECT id FROM browser_sessions")) == 1
        for wrong in ("", "123", code_of(secret, -1), codes[0][:-1]):
            assert (await one.submit(code=wrong)).status_code == 403
        await begin(two)
        code = code_of(secret)
        assert "My account" in (await one.submit(code=f" {code[:3]} {code[3:]}")).text
        assert (await two.submit(code=code)).status_code == 403
        assert "My account" in (await two.submit(code=codes[0].upper())).text
    async with browsing(auth.app) as three:
        await begin(three)
        for _ in range(10):
            assert (await three.submit(code=codes[0])).status_code == 403
        page = await three.submit(code=codes[1])
        assert (page.status_code, "Retry-After" in page.headers) == (429, True)
    assert {"second_factor_set", "login_throttled"} - set(await events(auth)) == {"login_throttled"}
    assert codes[1] not in str(await auth.rows("SELECT * FROM recovery_codes"))
    assert len(await auth.rows("SELECT id FROM recovery_codes")) == 9


async def test_sealed(auth: RunningAuth, browser: Browser, factor: tuple[bytes, list[str]]) -> None:
    """That the password was shown cannot be made up, or kept past a change of the password."""
    _, codes = factor
    async with browsing(auth.app) as other:
        await begin(other)
        for sealed in ("x", "", (await auth.rows("SELECT secret_jwe FROM second_factors"))[0]["secret_jwe"]):
            fields = other.read.forms[0].fields | {"sealed": sealed, "code": codes[0]}
            page = await other.http.post("/oauth/second-factor", data=fields)
            assert 'name="password"' in page.text
        await auth.execute("UPDATE users SET password_hash = 'changed'")
        assert (await other.submit(code=codes[0])).status_code == 403
    assert len(await auth.rows("SELECT id FROM recovery_codes")) == 10


async def test_removing(auth: RunningAuth, browser: Browser, factor: tuple[bytes, list[str]]) -> None:
    """Without it the password is enough again, and its recovery codes are gone."""
    with_one = await act(browser, "begin_factor")
    assert with_one.status_code == 400
    await browser.open("/oauth/account")
    await act(browser, "remove_factor")
    assert (await auth.login()).status_code == 200
    assert await auth.rows("SELECT id FROM recovery_codes") == []
    assert "second_factor_removed" in await events(auth)


async def test_lost_key_file(auth: RunningAuth, tmp_path: Path, factor: tuple[bytes, list[str]]) -> None:
    """With another key file the app's codes are wrong, and recovery codes still let in."""
    secret, codes = factor
    module = auth.module._factors
    module._key_file = tmp_path / "other.key"
    module.open()
    async with browsing(auth.app) as other:
        await begin(other)
        assert (await other.submit(code=code_of(secret))).status_code == 403
        assert "My account" in (await other.submit(code=codes[3])).text
