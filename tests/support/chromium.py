"""A real Chromium, headless, that notes what the policies of pages forbid."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it has no type hints
from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

__all__ = ("check_page", "chromium", "tab")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser; skips the test where there is none."""
    if _CHROMIUM is None:
        pytest.skip("no Chromium is installed (on Debian: apt install chromium)")
    async with async_playwright() as driver:
        # Its sandbox needs rights that containers and root lack; it sees no pages but ours.
        browser = await driver.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Open a window of its own with one page; in the end nothing was blocked, and no script or style failed."""
    context = await browser.new_context(**options)
    context.set_default_timeout(30_000)
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        yield page
    finally:
        await context.close()
    # What is answered with an error status is in the console too, and is what the test asked for.
    assert [] == [text for text in said if not text.startswith("Failed to load resource: the server responded")]


async def check_page(page: Page, *, axe: bool = True) -> None:
    """Nothing is wider than the window, and axe-core, which needs scripts, finds nothing."""
    if axe:
        found = await Axe().run(page)
        assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
