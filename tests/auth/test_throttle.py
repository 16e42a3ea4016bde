"""Who guesses has to wait; who knows the password does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast
from unittest.mock import ANY

import httpx2
import pytest
from sqlalchemy import select, update

from codelab.auth.cleaning import clean
from codelab.auth.people.models import FailureCount
from codelab.auth.throttle import network_of
from tests.support.auth import CLIENT, PASSWORD, RunningAuth, running_auth
from tests.support.flows import REQUEST, events, url_of

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Table

    from codelab.db import Transaction
    from codelab.settings import AuthSettings
    from tests.support.browser import Browser


async def log_in(auth: RunningAuth, address: str, password: str, username: str = "admin") -> httpx2.Response:
    """Ask with the password grant from an address."""
    transport = httpx2.ASGITransport(cast("Any", auth.app), client=(address, 50_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        fields = {"grant_type": "password", "client_id": CLIENT, "username": username, "password": password}
        return await http.post("/oauth/token", data=fields)


async def later(auth: RunningAuth, seconds: float) -> None:
    """Let time go by for all that was counted."""
    table, ago = cast("Table", FailureCount.__table__), timedelta(seconds=seconds)

    async def unit(transaction: Transaction) -> None:
        for row in (await transaction.session.execute(select(table))).mappings().all():
            moved = {name: at - ago for name, at in row.items() if isinstance(at, datetime)}
            await transaction.session.execute(update(table).where(table.c.id == row["id"]).values(moved))

    await auth.module.database.write(unit)


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """Failures of one address about all names come later than those about one."""
    return replace(settings, login_failures_per_address=200)


async def test_guessing_has_to_wait(settings: AuthSettings) -> None:
    """After ten failures the right password is not looked at either, also after a restart; waits grow and end."""
    async with running_auth(settings) as auth:
        for wait in (60, 120):
            for _ in range(10):
                assert (await log_in(auth, "192.0.2.1", "wrong")).status_code == 401
            refused = await log_in(auth, "192.0.2.1", PASSWORD)
            assert refused.status_code == 429
            assert refused.json() == {"error": "slow_down", "error_description": ANY}
            assert wait - 50 < int(refused.headers["Retry-After"]) <= wait
            if wait == 60:
                await later(auth, wait)
    async with running_auth(settings) as again:
        assert (await log_in(again, "192.0.2.1", PASSWORD)).status_code == 429
        await later(again, 120)
        assert (await log_in(again, "192.0.2.1", PASSWORD)).status_code == 200
        assert (await events(again)).count("login_throttled") == 2


async def test_nobody_is_locked_out(auth: RunningAuth) -> None:
    """From another address, and about another name, all goes on; what succeeds is not counted."""
    for _ in range(10):
        await log_in(auth, "192.0.2.1", "wrong")
        await log_in(auth, "192.0.2.1", "wrong", "nobody")
    assert (await log_in(auth, "192.0.2.2", PASSWORD)).status_code == 200
    assert (await log_in(auth, "192.0.2.1", PASSWORD, "admin@codelab.local")).status_code == 200
    for name in ("admin", "nobody"):
        assert (await log_in(auth, "192.0.2.1", "wrong", name)).status_code == 429
    for _ in range(3):
        for _ in range(9):
            assert (await log_in(auth, "192.0.2.3", "wrong")).status_code == 401
        assert (await log_in(auth, "192.0.2.3", PASSWORD)).status_code == 200


async def test_one_address_about_many_names(settings: AuthSettings) -> None:
    """Who tries one password on many names has to wait for all of them."""
    async with running_auth(replace(settings, login_failures_per_address=12)) as auth:
        for index in range(12):
            assert (await log_in(auth, "2001:db8::1", "wrong", f"name{index}")).status_code == 401
        assert (await log_in(auth, "2001:db8::2", PASSWORD)).status_code == 429
        assert (await log_in(auth, "2001:db8:0:1::1", PASSWORD)).status_code == 200


async def test_many_at_once(auth: RunningAuth) -> None:
    """Of 30 wrong ones at the same moment ten are looked at; 30 right ones all log in."""
    right = await asyncio.gather(*(log_in(auth, "192.0.2.1", PASSWORD) for _ in range(30)))
    assert {answer.status_code for answer in right} == {200}
    wrong = await asyncio.gather(*(log_in(auth, "192.0.2.1", "wrong") for _ in range(30)))
    assert sorted(answer.status_code for answer in wrong) == [401] * 10 + [429] * 20


async def test_page(auth: RunningAuth, browser: Browser) -> None:
    """The page says that it takes a while, and how long; nothing of the counts names a person; they are cleaned."""
    await browser.open(url_of(REQUEST | {"client_id": "codelab-cli", "redirect_uri": "http://127.0.0.1:1/callback"}))
    for _ in range(10):
        assert (await browser.sign_in("admin", "wrong")).status_code == 403
    page = await browser.sign_in("admin", PASSWORD)
    assert (page.status_code, "minutes: 1" in page.text) == (429, True)
    assert 0 < int(page.headers["Retry-After"]) <= 60
    assert "admin" not in str(await auth.rows("SELECT id FROM failure_counts"))
    await later(auth, 30 * 3600)
    assert (await clean(auth.module.database, auth.settings, auth.module._audit.chain))["ended flows"] == 2


def test_networks() -> None:
    """Of IPv6 64 bits are one address, an IPv4 address in its clothes is itself, and what is none stands for itself."""
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of(None) == ""
    assert network_of("testclient") == "testclient"
