"""The pages in a real browser: whole flows, with and without scripts, by keyboard, and looked at by axe-core."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import query_of
from tests.support.chromium import check_page, chromium, tab
from tests.support.flows import NATIVE, url_of
from tests.support.server import Running, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

PASSWORD = "correct horse battery"
REQUEST = NATIVE | {"client_id": "codelab-cli"}
NARROW = {"width": 360, "height": 700}


@pytest.fixture
async def server(migrated: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Running]:
    """A server on a real port."""
    async with serving(make_settings(migrated, tmp_path)) as running:
        yield running


@asynccontextmanager
async def answered() -> AsyncIterator[str]:
    """Be the program that waits for the answer; gives its redirect URI."""

    async def thank(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(thank, "127.0.0.1", 0) as program:
        yield f"http://127.0.0.1:{program.sockets[0].getsockname()[1]}/callback"


async def test_flows(server: Running) -> None:
    """Sign-in, consent and the way back, a device, the account, errors: nothing is blocked, and axe-core finds nothing.

    Once with the mouse, and once without scripts, in Russian, by keyboard, whose focus is seen.
    """
    async with chromium() as browser, answered() as here:
        request = server.url + url_of(REQUEST, redirect_uri=here)
        async with tab(browser, viewport=NARROW, locale="en-GB") as page:
            await page.goto(request)
            await check_page(page)
            for password in ("wrong", PASSWORD):
                await page.get_by_label("User name or email").fill("admin")
                await page.get_by_label("Password").fill(password)
                await page.get_by_role("button", name="Sign in").click()
                await page.get_by_role("alert" if password == "wrong" else "list").wait_for()
                await check_page(page)
            await page.get_by_role("button", name="Allow").click()
            await page.get_by_text("ok").wait_for()
            assert set(query_of(page.url)) == {"code", "state", "iss"}

            asked = (await server.http.post("/oauth/device_authorization", data={"client_id": "codelab-cli"})).json()
            await page.goto(asked["verification_uri"])
            await check_page(page)
            await page.get_by_label("Code that the device shows").fill(asked["user_code"].lower())
            await page.get_by_role("button", name="Go on").click()
            await page.get_by_text(asked["user_code"]).wait_for()
            await check_page(page)
            await page.get_by_role("button", name="Allow").click()
            assert "may go on" in await page.get_by_role("status").inner_text()

            await page.goto(f"{server.url}/oauth/account")
            await check_page(page)
            await page.get_by_label("What it is for").fill("ci")
            await page.get_by_role("button", name="Make a token").click()
            await page.get_by_text("codelab_pat_").wait_for()
            await page.get_by_role("button", name="Set up an authenticator app").click()
            await page.locator("svg.qr").wait_for()
            await check_page(page)

            refused = await page.goto(f"{request}&client_id=nobody")
            assert refused is not None
            assert refused.status == 400
            await check_page(page)

        async with tab(browser, java_script_enabled=False, locale="ru", color_scheme="dark") as page:
            await page.goto(request)
            await check_page(page, axe=False)
            await page.keyboard.type("admin")
            await page.keyboard.press("Tab")
            await page.keyboard.type(PASSWORD)
            await page.keyboard.press("Enter")
            await page.get_by_role("heading", name="Разрешить доступ?").wait_for()
            await check_page(page, axe=False)
            await page.keyboard.press("Tab")
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            await page.keyboard.press("Enter")
            await page.get_by_text("ok").wait_for()
            assert "code" in query_of(page.url)
