"""A browser as a program (``BROWSER``) in which a person signs in as admin and decides: ``person allow URL``."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import urlsplit

import httpx2

from tests.support.browser import Browser
from tests.support.process import PASSWORD

__all__ = ("decide",)


async def decide(url: str, decision: str) -> None:
    """Open a page, sign in, decide, and go where the browser is sent."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    async with httpx2.AsyncClient(base_url=origin, trust_env=False, verify=False, timeout=30) as http:
        browser = Browser(http)
        await browser.open(url)
        await browser.sign_in("admin", PASSWORD)
        await browser.submit(decision)
        if browser.left is not None:
            answer = await http.get(browser.left)
            assert answer.status_code == 200, answer.text


if __name__ == "__main__":
    asyncio.run(decide(sys.argv[2], sys.argv[1]))
