"""The authorization code flow as a client and a person go through it."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.support.auth import PASSWORD, RunningAuth
from tests.support.browser import Browser, query_of

if TYPE_CHECKING:
    import httpx2

__all__ = ("CHALLENGE", "HERE", "NATIVE", "REQUEST", "VERIFIER", "WEB", "events", "exchange", "let_in", "url_of")

VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
WEB = "https://app.example/cb?a=1"
HERE = "http://127.0.0.1:53123/callback"
REQUEST = {
    "response_type": "code",
    "client_id": "web",
    "redirect_uri": WEB,
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "state": "s t&te",
    "scope": "api:read",
}
NATIVE = REQUEST | {"client_id": "native", "redirect_uri": HERE}


def url_of(request: dict[str, str], /, **changes: str | None) -> str:
    """Write an authorization request; None leaves a parameter out."""
    fields = {name: value for name, value in (request | changes).items() if value is not None}
    return f"/oauth/authorize?{urlencode(fields)}"


async def let_in(browser: Browser, request: dict[str, str] | None = None, **changes: str | None) -> dict[str, str]:
    """Go through the pages and return what the client is told."""
    await browser.open(url_of(request or REQUEST, **changes))
    if "form" in browser.read.tags and "password" in browser.read.forms[0].fields:
        await browser.sign_in("admin", PASSWORD)
    if browser.left is None:
        await browser.submit("allow")
    return query_of(browser.left)


async def exchange(auth: RunningAuth, code: str, /, **changes: str) -> httpx2.Response:
    """Exchange a code."""
    fields = {"grant_type": "authorization_code", "client_id": "web", "redirect_uri": WEB, "code_verifier": VERIFIER}
    return await auth.post("/oauth/token", **(fields | {"code": code} | changes))


async def events(auth: RunningAuth) -> list[str]:
    """Name what the audit trail says, in its order, but for what was refused before anything came of it."""
    query = "SELECT event_type FROM audit_logs WHERE event_type NOT IN ('client_refused', 'grant_refused') ORDER BY seq"
    return [row["event_type"] for row in await auth.rows(query)]
