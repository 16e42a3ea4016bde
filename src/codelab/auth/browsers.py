"""People who are signed in with a browser: a cookie, and what proves that a form came from a page of ours."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from litestar.datastructures import Cookie

from codelab.auth.errors import OAuthError
from codelab.auth.repository import browsers
from codelab.auth.tokens import hash_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.schemas import Origin
    from codelab.db import Database

__all__ = ("Browsers", "ForgedForm", "form_token")

LIFETIME = timedelta(hours=12)


class ForgedForm(OAuthError):
    """Refuse a form that no page of ours made for this browser."""


def form_token(cookie: str) -> str:
    """Derive what a form must show from the cookie of its browser, which no other site can read or set."""
    return hmac.new(cookie.encode(errors="replace"), b"codelab form", hashlib.sha256).hexdigest()


class Browsers:
    """Know the browsers in which somebody is signed in; each has a random cookie before that already.

    ``secure`` says that people come by https: then the cookie is sent by no other way, and set by this host alone.
    """

    def __init__(self, database: Database, *, secure: bool) -> None:
        self._database = database
        self._secure = secure
        self.cookie_name = "__Host-codelab" if secure else "codelab"

    def cookie(self, value: str) -> Cookie:
        """Make the cookie; it ends with the browser, or when the sign-in does."""
        return Cookie(key=self.cookie_name, value=value, path="/", httponly=True, samesite="lax", secure=self._secure)

    @staticmethod
    def new_cookie() -> str:
        """Make the value of a cookie: 256 random bits."""
        return secrets.token_urlsafe(32)

    @staticmethod
    def check_form(cookie: str | None, shown: str | None) -> str:
        """Return the cookie when the form belongs to it.

        Raises:
            ForgedForm: it does not.
        """
        expected = form_token(cookie or "").encode()
        if not cookie or not shown or not hmac.compare_digest(expected, shown.encode(errors="replace")):
            raise ForgedForm("The form is not from a page that this browser was shown; go back and try again")
        return cookie

    async def find(self, cookie: str | None) -> BrowserRecord | None:
        """Return who is signed in, None when nobody is."""
        if not cookie:
            return None
        async with self._database.read() as session:
            return await browsers.find_browser(session, hash_token(cookie), now())

    async def sign_in(
        self, session: AsyncSession, user_id: str, cookie: str, old_cookie: str, origin: Origin, at: datetime
    ) -> None:
        """Keep that somebody has signed in; the browser gets a new cookie, and whoever was signed in before is out."""
        await browsers.delete_browser(session, hash_token(old_cookie))
        await browsers.insert_browser(
            session,
            id=new_id(),
            token_hash=hash_token(cookie),
            user_id=user_id,
            auth_time=at,
            expires_at=at + LIFETIME,
            ip_address=origin.ip_address,
            user_agent=origin.user_agent[:512] if origin.user_agent else None,
            wrong_codes=0,
        )
